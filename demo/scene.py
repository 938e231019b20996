"""Builds the demo's Blender project in the folder given after `--`: a Cycles scene that links two image textures by relative paths."""

import math
import os
import sys

import bpy

out = sys.argv[sys.argv.index("--") + 1]
os.makedirs(os.path.join(out, "textures"), exist_ok=True)
bpy.ops.wm.read_factory_settings(use_empty=True)


def picture(name, colour, size=64):
    """Saves a square PNG of `colour(x, y)` and answers its path."""
    path = os.path.join(out, "textures", name + ".png")
    image = bpy.data.images.new(name, size, size)
    image.pixels = [part for y in range(size) for x in range(size) for part in colour(x, y)]
    image.filepath_raw = path
    image.file_format = "PNG"
    image.save()
    bpy.data.images.remove(image)
    return path


def textured(name, path):
    """A material that reads its colour from the picture at `path`, which stays outside the scene file."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    texture = nodes.new("ShaderNodeTexImage")
    texture.image = bpy.data.images.load(path)
    links.new(texture.outputs["Color"], nodes["Principled BSDF"].inputs["Base Color"])
    return material


checker = picture("checker", lambda x, y: (0.9, 0.9, 0.85, 1) if (x // 8 + y // 8) % 2 else (0.12, 0.2, 0.35, 1))
bands = picture("bands", lambda x, y: (0.8, 0.25 + 0.5 * (y // 8 % 2), 0.1, 1))

bpy.ops.mesh.primitive_plane_add(size=12)
bpy.context.object.data.materials.append(textured("floor", checker))
bpy.ops.mesh.primitive_uv_sphere_add(location=(0, 0, 1))
ball = bpy.context.object
ball.data.materials.append(textured("ball", bands))
for frame, angle in ((1, 0), (4, math.pi / 2)):
    ball.rotation_euler = (angle, 0, angle)
    ball.keyframe_insert("rotation_euler", frame=frame)
bpy.ops.object.light_add(type="SUN", location=(4, -4, 6), rotation=(0.7, 0.2, 0.4))
bpy.context.object.data.energy = 3
bpy.ops.object.camera_add(location=(5, -5, 3.2), rotation=(1.2, 0, 0.785))

scene = bpy.context.scene
scene.camera = bpy.context.object
scene.render.engine = "CYCLES"
scene.cycles.device = "CPU"
scene.cycles.samples = 8
scene.cycles.seed = 1
scene.cycles.use_denoising = False
scene.render.resolution_x, scene.render.resolution_y = 320, 180
scene.render.image_settings.file_format = "PNG"
scene.render.use_stamp = False

# Saved twice: paths can only be made relative to a file that exists.
bpy.context.preferences.filepaths.save_version = 0
target = os.path.join(out, "scene.blend")
bpy.ops.wm.save_as_mainfile(filepath=target)
bpy.ops.file.make_paths_relative()
bpy.ops.wm.save_mainfile()

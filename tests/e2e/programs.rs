//! Programs that people render with run unchanged under the policies that ship.

use std::{fs, path::Path};

use crate::harness::{Ended, Host, end, requires};

const NEEDS: &[&str] = &["root", "fuse", "userns", "landlock"];

/// Runs a script under a policy, in a view of the host's `show`.
#[track_caller]
fn under(host: &Host, policy: &str, script: &str) -> Ended {
    let show = host.dir("show");
    let options = ["--quiet", "--policy", policy];
    end(&mut host.run(&[(&show, "/mnt/central")], &options, &["sh", "-ec", script])).ok()
}

fn begins_with(path: &Path, magic: &[u8]) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.len() > 100 && bytes.starts_with(magic))
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

#[test]
fn python_with_numpy_multiplies_in_several_processes() {
    if !requires(NEEDS) || !requires(&["python3", "numpy"]) {
        return;
    }
    let host = Host::new();
    host.write("show/job.py", "import numpy, multiprocessing, sys\ndef power(n):\n    a = numpy.full((200, 200), 1.0 / 200)\n    return float(numpy.linalg.matrix_power(a, n).sum())\nif __name__ == '__main__':\n    with multiprocessing.Pool(2) as pool: print(round(sum(pool.map(power, [2, 3, 4]))))\n    numpy.save('out.npy', numpy.arange(1000))\n");
    let ended = under(&host, "python", "/usr/bin/python3 job.py");
    assert_eq!(ended.out, "600\n", "{ended:?}");
    assert!(begins_with(&host.path("show/out.npy"), b"\x93NUMPY"));
    assert!(
        !host.path("show/__pycache__").exists(),
        "byte code came home"
    );
}

#[test]
fn ffmpeg_makes_a_film_of_frames_and_frames_of_a_film() {
    if !requires(NEEDS) || !requires(&["ffmpeg"]) {
        return;
    }
    let host = Host::new();
    let script = "ffmpeg -v error -f lavfi -i testsrc=size=320x180:rate=25:duration=1 frame%03d.png </dev/null; \
                  ffmpeg -v error -i frame%03d.png -pix_fmt yuv420p -c:v libx264 film.mp4 </dev/null; \
                  ffmpeg -v error -i film.mp4 -c:v libx265 -x265-params log-level=none film.mkv </dev/null; \
                  ffmpeg -v error -i film.mkv back%03d.png </dev/null; ls back*.png | wc -l";
    let ended = under(&host, "ffmpeg", script);
    assert_eq!(ended.out, "25\n", "{ended:?}");
    assert!(begins_with(&host.path("show/back025.png"), PNG));
    // And what it may not: a playlist that leads to the network.
    let ended = under(
        &host,
        "ffmpeg",
        "ffmpeg -v error -i http://127.0.0.1:9/x -f null - 2>&1 </dev/null || true",
    );
    assert!(ended.out.contains("not permitted"), "{ended:?}");
}

#[test]
fn imagemagick_scales_and_git_keeps_what_came_out() {
    if !requires(NEEDS) || !requires(&["convert", "git"]) {
        return;
    }
    let host = Host::new();
    let script = "/usr/bin/convert -size 640x480 gradient:red-blue big.png; /usr/bin/convert big.png -resize 25% small.png; \
                  /usr/bin/git init -q repo; cp small.png repo; cd repo; /usr/bin/git add .; \
                  /usr/bin/git -c user.name=x -c user.email=x@example.invalid commit -qm frame; /usr/bin/git fsck --strict; /usr/bin/git log --format=%s";
    let ended = under(&host, "generic", script);
    assert!(ended.out.ends_with("frame\n"), "{ended:?}");
    assert!(begins_with(&host.path("show/small.png"), PNG));
}

#[test]
fn a_compiler_makes_a_program_that_runs_from_the_view() {
    if !requires(NEEDS) || !requires(&["gcc"]) {
        return;
    }
    let host = Host::new();
    host.write(
        "show/main.c",
        "#include <stdio.h>\nint main(void) { puts(\"compiled\"); return 0; }\n",
    );
    let ended = under(&host, "generic", "/usr/bin/gcc -O2 -o main main.c; ./main");
    assert_eq!(ended.out, "compiled\n", "{ended:?}");
}

#[test]
fn a_plain_program_is_content_with_the_strict_policy() {
    if !requires(NEEDS) {
        return;
    }
    let host = Host::new();
    host.write("show/board.txt", "a storyboard");
    under(
        &host,
        "strict",
        "mkdir -p out; tr a-z A-Z < board.txt > out/loud.txt",
    );
    assert_eq!(
        fs::read_to_string(host.path("show/out/loud.txt"))
            .ok()
            .as_deref(),
        Some("A STORYBOARD")
    );
    let elsewhere = ["sh", "-c", "echo x > elsewhere.txt"];
    let ended = end(&mut host.run(
        &[(&host.path("show"), "/mnt/central")],
        &["--quiet", "--policy", "strict"],
        &elsewhere,
    ))
    .failed(10);
    assert!(ended.err.contains("Permission denied"), "{ended:?}");
}

#[test]
#[ignore = "long: POV-Ray and Blender render a frame each"]
fn renderers_render_under_their_own_policies() {
    if !requires(NEEDS) || !requires(&["povray", "blender"]) {
        return;
    }
    let host = Host::new();
    host.write("show/scene.pov", "#include \"colors.inc\"\ncamera { location <0,2,-3> look_at 0 } light_source { <2,4,-3> White } sphere { 0, 1 texture { pigment { Red } } }\n");
    under(
        &host,
        "povray",
        "povray +Iscene.pov +Oframe.png +W160 +H120 -D 2>/dev/null",
    );
    assert!(begins_with(&host.path("show/frame.png"), PNG));
    // A driver is a Python expression that Blender evaluates for each frame.
    host.write("show/scene.py", "import bpy\ns = bpy.context.scene\ns.render.engine = 'CYCLES'; s.cycles.device = 'CPU'; s.cycles.samples = 4; s.cycles.use_denoising = False\n\
        s.render.resolution_x = 160; s.render.resolution_y = 90; s.render.filepath = '/mnt/central/cycles.png'\n\
        bpy.app.driver_namespace['half'] = lambda frame: frame / 2\ncube = bpy.data.objects['Cube']\n\
        d = cube.driver_add('location', 0).driver; d.expression = 'half(frame)'\ns.frame_set(4)\nbpy.context.view_layer.update()\n\
        assert cube.matrix_world.translation[0] == 2.0, cube.matrix_world.translation\nbpy.ops.render.render(write_still=True)\n");
    under(
        &host,
        "blender",
        "blender --background --factory-startup --enable-autoexec --python-exit-code 3 --python scene.py >/dev/null",
    );
    assert!(begins_with(&host.path("show/cycles.png"), PNG));
}

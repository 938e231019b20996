//! The demo's projects and their job bundles, as a studio would have them on its own disks.
//!
//! The POV-Ray scene is one of POV-Ray's own examples with its includes; the Blender project is built on the spot by Blender itself, the
//! way an artist's machine would, with textures that stay outside the scene file.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{FRAMES, Renderer};
use crate::{
    failure::{Failure, Kind},
    terminal,
};

/// The scene, from POV-Ray's own examples.
const POV_SCENE: &str = "/usr/share/doc/povray/examples/animations/splinefollow/splinefollow.pov";
/// What it includes.
const POV_INCLUDES: &str = "/usr/share/povray-3.7/include";
/// The script that builds the Blender project.
const BLENDER_SCENE: &str = include_str!("../../../demo/scene.py");
/// The bundles.
const POV_TEMPLATE: &str = include_str!("../../../demo/povray.yaml");
const BLENDER_TEMPLATE: &str = include_str!("../../../demo/blender.yaml");

/// A project with its job bundle.
pub(super) struct Project {
    pub(super) renderer: Renderer,
    /// Where the files are.
    pub(super) directory: PathBuf,
    /// The job bundle.
    pub(super) bundle: PathBuf,
}

impl Project {
    /// Makes a project below a directory. Whoever is told of its job's end writes a line into `told`.
    pub(super) fn make(
        directory: PathBuf,
        renderer: Renderer,
        told: &Path,
    ) -> Result<Self, Failure> {
        let made = match renderer {
            Renderer::Blender => blender(&directory),
            _ => povray(&directory),
        };
        let template = match renderer {
            Renderer::Blender => BLENDER_TEMPLATE,
            _ => POV_TEMPLATE,
        };
        let bundle = directory.join("job");
        made.and_then(|()| write_bundle(&directory, &bundle, template, renderer, told))
            .map_err(|error| {
                let message = format!("cannot make the {} project: {error}", renderer.word());
                Failure::new(Kind::Environment, message).hint(
                    "apt-get install --no-install-recommends povray povray-examples povray-includes blender",
                )
            })?;
        Ok(Self {
            renderer,
            directory,
            bundle,
        })
    }

    /// Where a frame's image is stored.
    pub(super) fn image(&self, frame: u64) -> PathBuf {
        self.directory.join(format!("frames/frame{frame}.png"))
    }
}

/// Parameters, and where they lie below the central path.
fn values_of(renderer: Renderer) -> [(&'static str, &'static str); 3] {
    match renderer {
        Renderer::Blender => [
            ("Scene", "scene.blend"),
            ("Textures", "textures"),
            ("Frames", "frames"),
        ],
        _ => [
            ("Scene", "scene.pov"),
            ("Includes", "include"),
            ("Frames", "frames"),
        ],
    }
}

fn write_bundle(
    directory: &Path,
    bundle: &Path,
    template: &str,
    renderer: Renderer,
    told: &Path,
) -> io::Result<()> {
    let policy = renderer.word();
    fs::create_dir_all(bundle)?;
    fs::create_dir_all(directory.join("frames"))?;
    let template = template.replace("FRAMES", &FRAMES.to_string());
    fs::write(bundle.join("template.yaml"), template)?;
    let mut values = "parameterValues:\n".to_owned();
    for (name, value) in values_of(renderer) {
        values.push_str(&format!(
            "- {{ name: {name}, value: /mnt/central/{value} }}\n"
        ));
    }
    fs::write(bundle.join("parameter_values.yaml"), values)?;
    let tell = "echo \"$SAFELIGHT_JOB is $SAFELIGHT_JOB_STATE\" >> \"$0\"";
    let settings = format!(
        "policy = {policy:?}\n\
         expect = [\"/mnt/central/frames/frame#.png\"]\n\n\
         [[central]]\nhost = {host:?}\npath = \"/mnt/central\"\nwrite = true\n\n\
         [notify]\ncommand = [\"sh\", \"-c\", {tell:?}, {told:?}]\n",
        host = directory.display().to_string(),
        told = told.display().to_string(),
    );
    fs::write(bundle.join("safelight-job.toml"), settings)
}

fn povray(project: &Path) -> io::Result<()> {
    fs::create_dir_all(project.join("include"))?;
    fs::copy(POV_SCENE, project.join("scene.pov"))?;
    for entry in fs::read_dir(POV_INCLUDES)? {
        let entry = entry?;
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "inc")
        {
            fs::copy(
                entry.path(),
                project.join("include").join(entry.file_name()),
            )?;
        }
    }
    Ok(())
}

fn blender(project: &Path) -> io::Result<()> {
    fs::create_dir_all(project)?;
    let script = project.join("scene.py");
    fs::write(&script, BLENDER_SCENE)?;
    let built = Command::new("blender")
        .args([
            "--background",
            "--factory-startup",
            "--python-exit-code",
            "3",
            "--python",
        ])
        .arg(&script)
        .arg("--")
        .arg(project)
        .stdin(Stdio::null())
        .output()?;
    if !built.status.success() || !project.join("scene.blend").exists() {
        let said = terminal::shown(&built.stderr);
        return Err(io::Error::other(format!(
            "blender: {} {said}",
            built.status
        )));
    }
    fs::remove_file(&script)
}

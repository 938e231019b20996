//! A frame rendered in the dark is, pixel by pixel, the frame rendered in the open.
//!
//! A word drawn anew in every run stands in every scene, so that no image can be prepared, and is seen to matter: with another word
//! the frame is another one.

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{Ended, Host, clean, end, requires, word};

pub(crate) const POV_SCENE: &str =
    "/usr/share/doc/povray/examples/animations/splinefollow/splinefollow.pov";
pub(crate) const BLENDER_SCENE: &str = include_str!("../../demo/scene.py");

/// A picture as numbers.
#[derive(PartialEq, Eq)]
pub(crate) struct Picture {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Picture {
    #[track_caller]
    pub(crate) fn read(path: &Path) -> Self {
        let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut decoder = png::Decoder::new(BufReader::new(file));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().expect("a PNG file");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut pixels).expect("a picture");
        pixels.truncate(info.buffer_size());
        let picture = Self {
            width: info.width,
            height: info.height,
            pixels,
        };
        picture.is_no_blank(path);
        picture
    }

    fn is_no_blank(&self, path: &Path) {
        let first = &self.pixels[..3];
        let other = self.pixels.chunks_exact(3).any(|pixel| pixel != first);
        assert!(other, "{} has one colour", path.display());
    }

    /// How many bytes differ; all if the sizes do.
    pub(crate) fn differs(&self, other: &Self) -> usize {
        if (self.width, self.height) != (other.width, other.height) {
            return self.pixels.len();
        }
        let pairs = self.pixels.iter().zip(&other.pixels);
        pairs.filter(|(a, b)| a != b).count()
    }
}

/// A central path that no other run uses, with something else lying there on the host, which is taken away at the end.
struct Decoy {
    path: PathBuf,
}

impl Decoy {
    fn new() -> Self {
        let path = PathBuf::from(format!("/srv/safelight-test-{}", word(16)));
        fs::create_dir(&path).expect("a directory below /srv");
        Self { path }
    }

    fn central(&self) -> &str {
        self.path.to_str().expect("letters")
    }
}

impl Drop for Decoy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Runs a command in the open, with `host` at the central path: in a mount namespace of its own, so that nobody else sees it there.
fn bare(host: &Host, directory: &Path, central: &str, command: &[&str]) -> Ended {
    let script = "mount --bind \"$1\" \"$2\" && cd \"$2\" && shift 2 && exec \"$@\"";
    let mut unshare = clean(Command::new("unshare"), &host.state(), host.root());
    unshare
        .args(["--mount", "--", "sh", "-c", script, "bare"])
        .arg(directory)
        .arg(central)
        .args(command);
    end(&mut unshare)
}

/// POV-Ray's own scene, and a word in front of its camera.
pub(crate) fn pov_project(host: &Host, name: &str, word: &str) -> PathBuf {
    let scene = fs::read_to_string(POV_SCENE).expect("POV-Ray's example");
    let text = format!(
        "text {{ internal 1 \"{word}\" 0.2, 0 pigment {{ color rgb <1, 0.2, 0.1> }} finish {{ ambient 0.6 }} \
         rotate x*35 translate <-4.5, 4, -2> }}\n"
    );
    host.write(
        Path::new(name).join("scene.pov"),
        format!("{scene}\n{text}"),
    );
    host.dir(Path::new(name).join("frames"));
    host.path(name)
}

fn pov_command(central: &str) -> Vec<String> {
    let mut command: Vec<String> = ["povray", "+W200", "+H150", "+A0.3", "-D", "-V", "+K0.25"]
        .map(String::from)
        .to_vec();
    command.push(format!("+I{central}/scene.pov"));
    command.push(format!("+O{central}/frames/frame.png"));
    command
}

#[test]
fn a_povray_frame_is_the_same_in_the_dark_and_in_the_open() {
    if !requires(&["root", "fuse", "userns", "landlock", "povray"]) {
        return;
    }
    let host = Host::new();
    let decoy = Decoy::new();
    let central = decoy.central();
    let drawn = word(6);
    let dark = pov_project(&host, "dark", &drawn);
    let open = pov_project(&host, "open", &drawn);
    let other = pov_project(&host, "other", &word(6));
    // What lies at the very same path on the host would render another frame, and must neither be read nor written.
    fs::copy(other.join("scene.pov"), decoy.path.join("scene.pov")).expect("decoy");
    fs::create_dir(decoy.path.join("frames")).expect("decoy");

    let command = pov_command(central);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    bare(&host, &open, central, &command).ok();
    bare(&host, &other, central, &command).ok();
    let expect = format!("{central}/frames/frame.png");
    let run = end(&mut host.run(
        &[(&dark, central)],
        &["--policy", "povray", "--expect", &expect, "--json"],
        &command,
    ))
    .ok();

    let picture = |project: &Path| Picture::read(&project.join("frames/frame.png"));
    let (dark, open, other) = (picture(&dark), picture(&open), picture(&other));
    assert_eq!((dark.width, dark.height), (200, 150));
    assert_eq!(dark.differs(&open), 0, "{run:?}");
    assert!(dark.differs(&other) > 100, "the word does not show");
    let left: Vec<_> = fs::read_dir(decoy.path.join("frames"))
        .expect("decoy")
        .collect();
    assert!(left.is_empty(), "written on the host: {left:?}");
    assert_eq!(run.said()["audit"]["denied"], 0, "{run:?}");
}

/// The demo's project, and a word before its camera.
pub(crate) fn blender_project(host: &Host, name: &str, word: &str) -> PathBuf {
    let project = host.dir(name);
    host.dir(Path::new(name).join("frames"));
    let mark = "scene = bpy.context.scene\n";
    assert!(BLENDER_SCENE.contains(mark), "the demo's script changed");
    let text = format!(
        "bpy.ops.object.text_add(location=(2.2, -2.6, 1.2), rotation=(1.2, 0, 0.785))\n\
         bpy.context.object.data.body = {word:?}\nbpy.context.object.data.size = 0.9\n{mark}\
         scene.render.resolution_percentage = 60\n"
    );
    let script = host.write(format!("{name}.py"), BLENDER_SCENE.replace(mark, &text));
    let mut blender = clean(Command::new("blender"), &host.state(), host.root());
    blender
        .args([
            "--background",
            "--factory-startup",
            "--python-exit-code",
            "3",
            "--python",
        ])
        .arg(script)
        .arg("--")
        .arg(&project);
    end(&mut blender).ok();
    assert!(project.join("scene.blend").exists());
    project
}

#[test]
fn a_blender_frame_is_the_same_in_the_dark_and_in_the_open() {
    if !requires(&["root", "fuse", "userns", "landlock", "blender"]) {
        return;
    }
    let host = Host::new();
    let decoy = Decoy::new();
    let central = decoy.central();
    let dark = blender_project(&host, "dark", &word(5));
    // The open project is a copy, not a second build: a scene file need not be the same bytes twice.
    let open = host.path("open");
    copy(&dark, &open);
    let other = blender_project(&host, "other", &word(5));
    fs::copy(other.join("scene.blend"), decoy.path.join("scene.blend")).expect("decoy");

    let scene = format!("{central}/scene.blend");
    let output = format!("{central}/frames/frame#");
    let expect = format!("{central}/frames/frame2.png");
    let command = [
        "blender",
        "--background",
        &scene,
        "--threads",
        "2",
        "--render-output",
        &output,
        "--render-frame",
        "2",
    ];
    bare(&host, &open, central, &command).ok();
    bare(&host, &other, central, &command).ok();
    let run = end(&mut host.run(
        &[(&dark, central)],
        &["--policy", "blender", "--expect", &expect, "--json"],
        &command,
    ))
    .ok();

    let picture = |project: &Path| Picture::read(&project.join("frames/frame2.png"));
    let (dark, open, other) = (picture(&dark), picture(&open), picture(&other));
    assert_eq!(dark.differs(&open), 0, "{run:?}");
    assert!(dark.differs(&other) > 100, "the word does not show");
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("directory");
    for entry in fs::read_dir(from).expect("directory").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy");
        }
    }
}

#[test]
fn what_lies_at_the_central_path_on_the_host_is_neither_seen_nor_touched() {
    if !requires(&["root", "fuse", "userns", "landlock"]) {
        return;
    }
    let host = Host::new();
    let decoy = Decoy::new();
    let central = decoy.central();
    let (real, fake) = (word(20), word(20));
    let show = host.dir("show");
    host.write("show/board.txt", &real);
    fs::write(decoy.path.join("board.txt"), &fake).expect("decoy");
    fs::write(decoy.path.join("only-here.txt"), &fake).expect("decoy");

    let script = format!(
        "cat {central}/board.txt; ls {central}; echo new > {central}/board.txt; rm -f {central}/only-here.txt"
    );
    let run = end(&mut host.run(
        &[(&show, central)],
        &["--overwrite"],
        &["sh", "-c", &script],
    ))
    .ok();

    assert_eq!(run.out, format!("{real}board.txt\n"), "{run:?}");
    let read = |path: PathBuf| fs::read_to_string(path).expect("file");
    assert_eq!(read(decoy.path.join("board.txt")), fake);
    assert_eq!(read(decoy.path.join("only-here.txt")), fake);
    assert_eq!(read(show.join("board.txt")), "new\n");
}

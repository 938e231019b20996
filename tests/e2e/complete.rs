//! Is everything on the log? The same program on the same files, bare under strace and in a session: what strace saw below the central path
//! and what the log says of it must agree. `docs/audit.md` lists the differences that there are, and each is allowed for here by name.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

use crate::harness::{Host, below_directory, end, installed, requires};

const NEEDS: &[&str] = &["fuse", "userns", "landlock", "strace"];
const CENTRAL: &str = "/mnt/c";

/// What was done with a path. Two of a kind are one: how often is the kernel's business.
type Acts = BTreeSet<(&'static str, String)>;

/// Runs a command in two copies of the same directory, bare and in a session; answers what each says of it.
fn both(files: &[(&str, &str)], policy: &str, command: &[&str]) -> (Acts, Acts) {
    let host = Host::new();
    for (name, text) in files {
        host.write(format!("bare/{name}"), text);
        host.write(format!("show/{name}"), text);
    }
    let (bare, traces) = (host.dir("bare"), host.dir("traces"));
    let mut strace = Command::new("strace");
    // A file for each thread: in one file for all, a call that another interrupts is two lines.
    strace.args([
        "-ff",
        "-qq",
        "-y",
        "-s",
        "4096",
        "-e",
        "trace=%file,openat,open,creat",
        "-o",
    ]);
    strace
        .arg(traces.join("of"))
        .args(command)
        .current_dir(&bare)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/nonexistent");
    end(&mut strace).ok();
    let seen = below_directory(&traces)
        .expect("traces")
        .iter()
        .flat_map(|trace| seen(&fs::read_to_string(trace).expect("trace"), &bare))
        .collect();
    let show = host.dir("show");
    end(&mut host.run(
        &[(&show, CENTRAL)],
        &["--policy", policy, "--quiet"],
        command,
    ))
    .ok();
    let said = end(host.safelight().args(["audit", "show", "--json"])).ok();
    let rows = said
        .out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    (seen, logged(rows))
}

/// What a trace tells of paths below a directory.
fn seen(trace: &str, below: &Path) -> Acts {
    let mut acts = Acts::new();
    for line in trace.lines() {
        let Some((call, rest)) = line.split_once('(') else {
            continue;
        };
        let Some((arguments, result)) = rest.rsplit_once(" = ") else {
            continue;
        };
        let failed = result.starts_with('-');
        let paths: Vec<_> = paths(arguments)
            .into_iter()
            .filter_map(|path| inside(&path, below))
            .collect();
        let Some(first) = paths.first().cloned() else {
            continue;
        };
        if failed {
            if result.contains("ENOENT") && !arguments.contains("O_CREAT") {
                acts.insert(("missing", first));
            }
            continue;
        }
        match call {
            "openat" | "open" | "creat" if arguments.contains("O_DIRECTORY") => {
                _ = acts.insert(("list", first))
            }
            "openat" | "open" | "creat" if arguments.contains("O_PATH") => {}
            "openat" | "open" | "creat" => {
                let writes = call == "creat"
                    || arguments.contains("O_WRONLY")
                    || arguments.contains("O_RDWR");
                acts.insert((if writes { "write" } else { "read" }, first));
            }
            "rename" | "renameat" | "renameat2" => {
                acts.insert(("rename", first));
                acts.extend(paths.get(1).map(|to| ("made", to.clone())));
            }
            "link" | "linkat" => acts.extend(paths.get(1).map(|to| ("made", to.clone()))),
            "mkdir" | "mkdirat" | "symlink" | "symlinkat" => {
                acts.extend(paths.last().map(|to| ("made", to.clone())))
            }
            "unlink" | "rmdir" => _ = acts.insert(("remove", first)),
            "unlinkat" => _ = acts.insert(("remove", first)),
            _ => {}
        }
    }
    acts
}

/// The paths among a call's arguments: what is quoted, after the directory that it is looked up in.
fn paths(arguments: &str) -> Vec<String> {
    let (mut all, mut directory, mut rest) = (Vec::new(), String::new(), arguments);
    while let Some(at) = rest.find(['"', '<']) {
        let close = if rest.as_bytes()[at] == b'"' {
            '"'
        } else {
            '>'
        };
        let Some(len) = rest[at + 1..].find(close) else {
            break;
        };
        let text = rest[at + 1..at + 1 + len].to_owned();
        if close == '>' {
            directory = text;
        } else if !text.is_empty() {
            // An empty name is refused before anything is looked up.
            let join = !text.starts_with('/') && !directory.is_empty();
            all.push(if join {
                format!("{directory}/{text}")
            } else {
                text
            });
        }
        rest = &rest[at + len + 2..];
    }
    all
}

/// A path of the bare run as the session spells it; nothing if it lies elsewhere.
fn inside(path: &str, below: &Path) -> Option<String> {
    let absolute = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}/{path}", below.display()),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in absolute.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    let absolute = format!("/{}", parts.join("/"));
    let rest = absolute.strip_prefix(below.to_str()?)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| format!("{CENTRAL}{rest}"))
}

fn logged(rows: impl Iterator<Item = Value>) -> Acts {
    let mut acts = Acts::new();
    for row in rows.filter(|row| row["source"] == "view") {
        let path = row["path"].as_str().unwrap_or_default().to_owned();
        if !path.starts_with(CENTRAL) {
            continue;
        }
        let to = row["to"].as_str().map(str::to_owned);
        match (
            row["event"].as_str().unwrap_or_default(),
            row["verdict"].as_str().unwrap_or_default(),
        ) {
            (_, "missing") => _ = acts.insert(("missing", path)),
            ("open-read", "allowed") => _ = acts.insert(("read", path)),
            // To create is to open as well.
            ("open-write" | "create", "allowed") => _ = acts.insert(("write", path)),
            ("list", "allowed") => _ = acts.insert(("list", path)),
            ("rename", "allowed") => {
                acts.insert(("rename", path));
                acts.extend(to.map(|to| ("made", to)));
            }
            ("link", "allowed") => acts.extend(to.map(|to| ("made", to))),
            ("mkdir" | "symlink", "allowed") => _ = acts.insert(("made", path)),
            ("unlink" | "rmdir", "allowed") => _ = acts.insert(("remove", path)),
            _ => {}
        }
    }
    acts
}

#[track_caller]
fn agree((seen, logged): (Acts, Acts), at_least: &[(&'static str, &str)]) {
    // A directory may be opened without saying that it is one; the view knows what it is.
    let spelled = |(what, path): (&'static str, String)| match (what, ("list", path)) {
        ("read", listed) if logged.contains(&listed) => listed,
        (what, (_, path)) => (what, path),
    };
    let seen: Acts = seen.into_iter().map(spelled).collect();
    let unlogged: Vec<_> = seen.difference(&logged).collect();
    assert!(
        unlogged.is_empty(),
        "strace saw it and the log does not have it: {unlogged:#?}"
    );
    // The kernel looks for the name itself before it makes, renames or opens it: more misses than a program asked for are no lie.
    let unseen: Vec<_> = logged
        .difference(&seen)
        .filter(|(what, _)| *what != "missing")
        .collect();
    assert!(
        unseen.is_empty(),
        "the log has it and strace did not see it: {unseen:#?}"
    );
    for (what, path) in at_least {
        let act = (*what, format!("{CENTRAL}/{path}"));
        assert!(
            logged.contains(&act),
            "the positive control: {act:?} in {logged:#?}"
        );
    }
}

#[test]
fn a_shell_script_is_on_the_log_as_strace_saw_it() {
    if !requires(NEEDS) {
        return;
    }
    let script = "cat a.txt b/c.txt >new.txt; mkdir made; mv new.txt made/moved.txt; ln -s a.txt link; ln a.txt hard; rm b/c.txt; \
                  cat nothing.txt 2>/dev/null; ls made >/dev/null; echo more >>a.txt; rmdir gone; exit 0";
    let files = [("a.txt", "a\n"), ("b/c.txt", "c\n"), ("gone/x", "")];
    let script = format!("rm gone/x; {script}");
    let acts = both(&files, "generic", &["/bin/sh", "-c", &script]);
    let expected = [
        ("read", "b/c.txt"),
        ("write", "new.txt"),
        ("rename", "new.txt"),
        ("made", "made/moved.txt"),
        ("remove", "gone"),
        ("missing", "nothing.txt"),
        ("list", "made"),
    ];
    agree(acts, &expected);
}

#[test]
fn a_python_program_is_on_the_log_as_strace_saw_it() {
    if !requires(NEEDS) || !requires(&["python3"]) {
        return;
    }
    let program = "import os, shutil, pathlib\n\
        for name in sorted(os.listdir('in')):\n    open('in/' + name).read()\n\
        os.makedirs('out/deep')\n\
        with open('out/deep/a.tmp', 'w') as f: f.write('x' * 100000)\n\
        os.replace('out/deep/a.tmp', 'out/deep/a')\n\
        shutil.copyfile('in/1', 'out/copy')\n\
        pathlib.Path('in/2').unlink()\n\
        print(pathlib.Path('in/none').exists())\n\
        try: open('in/none')\n\
        except FileNotFoundError: pass\n\
        shutil.rmtree('old')\n";
    let files = [
        ("p.py", program),
        ("in/1", "1"),
        ("in/2", "2"),
        ("old/x/y", ""),
    ];
    let acts = both(&files, "generic", &["/usr/bin/python3", "-I", "-B", "p.py"]);
    let expected = [
        ("read", "in/1"),
        ("rename", "out/deep/a.tmp"),
        ("made", "out/deep/a"),
        ("remove", "in/2"),
        ("missing", "in/none"),
        ("remove", "old/x/y"),
    ];
    agree(acts, &expected);
}

#[test]
fn a_pov_ray_frame_is_on_the_log_as_strace_saw_it() {
    if !requires(NEEDS) || !requires(&["povray"]) {
        return;
    }
    let scene = "#version 3.7;\nglobal_settings { assumed_gamma 1 }\n#include \"parts.inc\"\n#include \"colors.inc\"\nlight_source { <2,4,-3> rgb 1 }\ncamera { location <0,0,-3> look_at 0 }\nobject { Ball }\n";
    let files = [
        ("scene.pov", scene),
        (
            "parts.inc",
            "#declare Ball = sphere { 0, 1 pigment { rgb 1 } }\n",
        ),
    ];
    let acts = both(
        &files,
        "povray",
        &[
            "povray",
            "+Iscene.pov",
            "+Oout.png",
            "+W16",
            "+H12",
            "-D",
            "-GA",
        ],
    );
    agree(
        acts,
        &[
            ("read", "scene.pov"),
            ("read", "parts.inc"),
            ("write", "out.png"),
            ("missing", "colors.inc"),
        ],
    );
}

#[test]
fn a_blender_frame_is_on_the_log_as_strace_saw_it() {
    if !requires(NEEDS) || !requires(&["blender"]) {
        return;
    }
    let script = "import bpy, os\ns = bpy.context.scene\ns.render.engine = 'CYCLES'\ns.cycles.samples = 1; s.cycles.use_denoising = False\ns.render.resolution_x = s.render.resolution_y = 16\n\
        s.render.filepath = os.path.join(os.getcwd(), 'out.png')\nopen('texture.txt').read()\nbpy.ops.render.render(write_still=True)\n";
    let files = [("frame.py", script), ("texture.txt", "t")];
    assert!(installed("blender").is_some());
    let acts = both(
        &files,
        "blender",
        &[
            "blender",
            "--background",
            "--factory-startup",
            "--python",
            "frame.py",
        ],
    );
    agree(
        acts,
        &[
            ("read", "frame.py"),
            ("read", "texture.txt"),
            ("write", "out.png"),
        ],
    );
}

//! pjdfstest and fsx on a mounted view.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::mounting::{Bench, can_mount, noise, tool};

/// Ends a program that hangs.
fn limited(seconds: u32, program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", &seconds.to_string()]).arg(program);
    command
}

#[test]
fn pjdfstest_as_root() {
    let Some(program) = tool("pjdfstest_as_root", "pjdfstest") else {
        return;
    };
    if !can_mount("pjdfstest_as_root") {
        return;
    }
    let mut bench = Bench::new();
    bench.many = true;
    let inputs = bench.pack();
    let mounted = bench.mount("mount", &[&inputs], true, &[]);
    for above in mounted.at.ancestors().take(2) {
        fs::set_permissions(above, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let config = bench.at("pjdfstest.toml");
    fs::write(&config, "[features]\nposix_fallocate = {}\nrename_ctime = {}\nutime_now = {}\nutimensat = {}\n[settings]\nnaptime = 0.01\nallow_remount = true\n[dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]\n").unwrap();
    let mut run = limited(300, &program);
    run.arg("-c")
        .arg(&config)
        .arg("-p")
        .arg(&mounted.at)
        .arg("-s")
        .arg(bench.at("copy"))
        .args(std::env::var("PAT").ok());
    let output = run.output().unwrap();
    println!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    mounted.end();
    let _: Option<PathBuf> = None;
    let _ = noise(0);
}

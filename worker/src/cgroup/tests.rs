use super::{places::own_path, *};

const HYBRID: &str = "\
25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
30 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 25 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
32 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

fn paths(of: &[&str]) -> Vec<PathBuf> {
    of.iter().map(PathBuf::from).collect()
}

#[test]
fn a_hybrid_host_has_kill_in_one_place_and_limits_in_others() {
    let found = Candidates::parse(HYBRID, "4:memory:/\n8:pids:/\n0::/\n");
    assert_eq!(found.unified, paths(&["/sys/fs/cgroup/unified"]));
    assert_eq!(found.memory, paths(&["/sys/fs/cgroup/memory"]));
    assert_eq!(found.pids, paths(&["/sys/fs/cgroup/pids"]));
    assert_eq!(found.why, Vec::<String>::new());
}

#[test]
fn a_group_that_somebody_else_put_us_into_is_left_alone() {
    let found = Candidates::parse(HYBRID, "4:memory:/supervisor/7\n8:pids:/\n0::/\n");
    assert_eq!(found.memory, paths(&[]));
    assert_eq!(found.pids, paths(&["/sys/fs/cgroup/pids"]));
    assert_eq!(
        found.why,
        ["somebody else has put this process into a memory group"]
    );
}

#[test]
fn on_a_v2_host_the_root_comes_before_our_own_group() {
    let mountinfo = "30 25 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
    let found = Candidates::parse(
        mountinfo,
        "0::/user.slice/user-1000.slice/session-3.scope\n",
    );
    assert_eq!(
        found.unified,
        paths(&[
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope"
        ])
    );
}

#[test]
fn without_any_the_reason_is_said() {
    let found = Candidates::parse("22 1 0:20 / / rw - ext4 /dev/vda rw\nnonsense\n", "");
    assert_eq!(found.why, ["cgroup v2 is not mounted"]);
    assert!(found.unified.is_empty());
}

#[test]
fn a_combined_v1_hierarchy_is_recognised_by_each_of_its_controllers() {
    assert_eq!(
        own_path("5:cpu,cpuacct:/a\n4:memory,pids:/b:c\n0::/", "pids"),
        Some("/b:c")
    );
    assert_eq!(own_path("4:memoryx:/b\n", "memory"), None);
}

#[test]
fn only_a_leaf_whose_agent_is_gone_is_swept() {
    let tree = tempfile::tempdir().unwrap();
    let ours = tree.path().join(OURS);
    fs::create_dir_all(ours.join("stale")).unwrap();
    let living = create(&ours.join("living")).unwrap();
    let groups = Groups {
        unified: Some(ours.clone()),
        ..Groups::default()
    };
    assert_eq!(groups.sweep(), 1);
    assert!(!ours.join("stale").exists());
    assert!(ours.join("living").exists());
    drop(living);
    assert_eq!(groups.sweep(), 1);
}

#[test]
fn out_of_memory_is_counted_by_its_own_line() {
    assert_eq!(
        field("low 0\noom 3\noom_kill 2\noom_group_kill 1\n", "oom_kill"),
        Some(2)
    );
    assert_eq!(
        field("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n", "oom_kill"),
        Some(4)
    );
    assert_eq!(field("", "oom_kill"), None);
}

#[test]
fn a_limit_file_that_is_not_there_is_no_limit_and_one_that_refuses_is_an_error() {
    let tree = tempfile::tempdir().unwrap();
    assert!(!set(tree.path(), "memory.max", "1").unwrap());
    fs::create_dir(tree.path().join("memory.max")).unwrap();
    assert!(matches!(
        set(tree.path(), "memory.max", "1"),
        Err(Error::Group { act: "set", .. })
    ));
    fs::write(tree.path().join("pids.max"), "max").unwrap();
    assert!(set(tree.path(), "pids.max", "7").unwrap());
    assert_eq!(
        fs::read_to_string(tree.path().join("pids.max")).unwrap(),
        "7"
    );
}

#[test]
fn a_leaf_is_made_even_while_others_sweep() {
    let tree = tempfile::tempdir().unwrap();
    let ours = tree.path().join(OURS);
    fs::create_dir(&ours).unwrap();
    let groups = Groups {
        unified: Some(ours.clone()),
        ..Groups::default()
    };
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                groups.sweep();
            }
        });
        for round in 0..500 {
            let path = ours.join(format!("leaf-{round}"));
            let leaf = create(&path);
            let kept = leaf.is_ok() && path.exists();
            if !kept || round == 499 {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            assert!(kept, "{leaf:?}");
            fs::remove_dir(&path).unwrap();
        }
    });
}

#[test]
fn a_leaf_that_another_agent_holds_is_not_taken() {
    let tree = tempfile::tempdir().unwrap();
    let path = tree.path().join("leaf");
    let held = create(&path).unwrap();
    assert!(matches!(
        create(&path),
        Err(Error::Group { act: "lock", .. })
    ));
    drop(held);
}

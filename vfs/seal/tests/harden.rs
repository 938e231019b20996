//! Hardening, seen from the kernel's side; alone in its process because it cannot be undone.

use std::fs;

#[test]
fn a_hardened_process_leaves_no_core_and_no_open_memory() {
    let before = nix::sys::prctl::get_dumpable().unwrap();
    assert!(before, "the test would prove nothing");
    let hardened = safelight_seal::harden::harden().unwrap();
    assert!(!nix::sys::prctl::get_dumpable().unwrap());
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    assert_eq!(core.split_whitespace().nth(5), Some("0"), "{core}");
    // Touched after the lock, so that MCL_FUTURE is what keeps them.
    let pages = std::hint::black_box(vec![1u8; 8 << 20]);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let locked: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmLck:"))
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        hardened.memory_locked,
        locked >= 8 << 10,
        "{locked} KiB locked with {} bytes in use",
        pages.len()
    );
}

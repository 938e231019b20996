//! The judge through its public interface: files in, grants and explanations out.
#![expect(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test's helpers and tables"
)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use safelight_policies::{
    Catalogue, Error, Policy, PolicyFile, Request,
    central::{Decision, Judge, Want},
    explain::{Query, Verdict},
    grant::{Feature, OnDeny, Requirement, Rights},
    id::PolicyName,
    path::CentralPath,
    why_never,
};

const SHIPPED: [&str; 7] = [
    "base", "blender", "ffmpeg", "generic", "povray", "python", "strict",
];

fn name(text: &str) -> PolicyName {
    PolicyName::new(text).unwrap()
}

fn shipped(text: &str) -> Policy {
    Catalogue::shipped().unwrap().resolve(&name(text)).unwrap()
}

fn header(text: &str) -> String {
    format!("schema = 1\nname = \"own\"\nsummary = \"own\"\n{text}")
}

/// A policy named `own` over the shipped ones.
fn own(text: &str) -> Result<Policy, Error> {
    let mut catalogue = Catalogue::shipped()?;
    let name = catalogue.add(&header(text), "own.toml")?;
    catalogue.resolve(&name)
}

fn over_generic(text: &str) -> Policy {
    own(&format!("extends = [\"generic\"]\n{text}")).unwrap()
}

fn request(central: &[(&str, bool)]) -> Request {
    Request {
        central: central
            .iter()
            .map(|(path, write)| (CentralPath::new(*path).unwrap(), *write))
            .collect(),
        ..Request::default()
    }
}

/// Takes the line numbers of shipped files out of a text, so that a comment in one of them fails no test.
fn unnumbered(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(end) = rest.find(".toml:").map(|at| at + ".toml".len()) {
        let own = rest[..end].ends_with("own.toml");
        out.push_str(&rest[..end]);
        rest = &rest[end..];
        if !own {
            rest = rest[1..].trim_start_matches(|c: char| c.is_ascii_digit());
        }
    }
    out + rest
}

mod profiles {
    use super::*;

    #[test]
    fn the_shipped_policies_resolve_without_a_warning() {
        let catalogue = Catalogue::shipped().unwrap();
        let names: Vec<_> = catalogue.list().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, SHIPPED);
        for text in SHIPPED.iter().filter(|name| **name != "base") {
            assert_eq!(shipped(text).warnings(), [], "{text}");
        }
        assert_eq!(shipped("base").warnings().len(), 1);
    }

    #[test]
    fn no_shipped_policy_allows_a_call_that_takes_down_a_wall() {
        let refused = [
            "mount",
            "umount2",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "setns",
            "unshare",
            "clone3",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "keyctl",
            "add_key",
            "request_key",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "kexec_load",
            "kexec_file_load",
            "init_module",
            "finit_module",
            "delete_module",
            "open_by_handle_at",
            "name_to_handle_at",
            "pivot_root",
            "chroot",
            "reboot",
            "swapon",
            "swapoff",
            "quotactl",
            "iopl",
            "ioperm",
            "modify_ldt",
            "acct",
            "syslog",
            "vhangup",
            "process_madvise",
            "kcmp",
            "pidfd_getfd",
            "fanotify_init",
            "settimeofday",
            "clock_settime",
            "sethostname",
        ];
        let also = [
            "memfd_create",
            "execveat",
            "personality",
            "seccomp",
            "vmsplice",
            "mincore",
            "capset",
            "setuid",
            "sync",
        ];
        for policy in SHIPPED {
            let grant = shipped(policy).admit(&Request::default()).unwrap();
            let allow = &grant.terms().seccomp.allow;
            assert!(allow.is_sorted() && allow.len() > 150, "{policy}");
            for call in refused {
                assert!(why_never(call).is_some(), "{call}");
            }
            for call in refused.iter().chain(&also) {
                assert!(
                    !allow.iter().any(|allowed| allowed == call),
                    "{policy} allows {call}"
                );
            }
        }
    }

    #[test]
    fn no_shipped_policy_leaves_a_wall_out() {
        for policy in SHIPPED {
            let grant = shipped(policy).admit(&Request::default()).unwrap();
            let terms = grant.terms();
            for feature in Feature::ALL {
                let expected = match feature {
                    Feature::CgroupKill if policy == "strict" => Requirement::Require,
                    Feature::CgroupKill | Feature::CgroupLimits => Requirement::BestEffort,
                    _ => Requirement::Require,
                };
                assert_eq!(
                    terms.features.get(&feature),
                    Some(&expected),
                    "{policy}: {feature}"
                );
            }
            assert!(terms.landlock_min_abi >= 2);
            assert_eq!(terms.seccomp.on_deny, OnDeny::Errno);
            assert!(terms.tmp.iter().all(|tmp| !tmp.exec), "{policy}");
            assert_eq!(terms.devices, ["full", "null", "random", "urandom", "zero"]);
            assert!(
                terms
                    .root
                    .iter()
                    .all(|root| !root.reason.is_empty() && root.origin.contains(".toml:"))
            );
        }
    }

    #[test]
    fn the_canonical_text_of_a_policy_is_what_two_sites_agree_on() {
        insta::assert_snapshot!("generic", shipped("generic").canonical());
    }

    #[test]
    fn blender_differs_from_generic_by_what_it_says() {
        let lines = |policy: &str| shipped(policy).canonical();
        let generic = lines("generic");
        let blender = lines("blender");
        let more: Vec<_> = blender
            .lines()
            .skip(1)
            .filter(|line| !generic.contains(*line))
            .collect();
        assert_eq!(
            more,
            [
                "root \"/etc/glvnd\" r if-there",
                "root \"/sys/devices/system/node\" r if-there",
                "env-pass BLENDER_USER_CONFIG",
                "env-pass BLENDER_USER_SCRIPTS",
                "limits.memory 64GiB",
                "call mbind",
                "call set_mempolicy",
            ]
        );
    }
}

mod parsing {
    use super::*;

    #[test]
    fn every_error_names_the_line_and_the_thing() {
        for (text, message) in [
            (
                "[limits]\nmemry = \"1GiB\"",
                "own.toml:5: unknown field `memry`",
            ),
            (
                "[[root]]\nat = \"/opt/x\"\nrights = \"r\"",
                "own.toml:4: missing field `reason`",
            ),
            (
                "[[root]]\nat = \"/opt/x\"\nrights = \"rw\"\nreason = \"x\"",
                "own.toml:6: unknown variant `rw`",
            ),
            (
                "[[root]]\nat = \"/run/x\"\nrights = \"r\"\nreason = \"x\"",
                "own.toml:5: path \"/run/x\": a socket there is a door",
            ),
            (
                "[[root]]\nat = \"/opt/x\"\nrights = \"r\"\nreason = \" \"",
                "own.toml:7: reason \" \": it is empty",
            ),
            (
                "[[device]]\nname = \"null\"\nreason = \"x\"\n[[device]]\nname = \"null\"\nreason = \"x\"",
                "own.toml:8: device \"null\" is already named at own.toml:5",
            ),
            (
                "[[device]]\nname = \"mem\"\nreason = \"x\"",
                "own.toml:5: device \"mem\": a session may have full, null,",
            ),
            (
                "[[device]]\nname = \"../mem\"\nreason = \"x\"",
                "own.toml:5: device \"../mem\": a session may have",
            ),
            (
                "[[tmp]]\nat = \"/t\"\nsize = \"0B\"\ninodes = 1\nreason = \"x\"",
                "own.toml:6: size \"0B\": it is zero",
            ),
            (
                "[[tmp]]\nat = \"/t\"\nsize = \"1MiB\"\ninodes = 0\nreason = \"x\"",
                "own.toml:7: number of files \"0\": it is zero",
            ),
            (
                "[[env]]\nname = \"A=B\"\nvalue = \"\"\nreason = \"x\"",
                "own.toml:5: variable \"A=B\": expected up to 128 letters",
            ),
            (
                "[[env]]\nname = \"A\"\nvalue = \"\\u0000\"\nreason = \"x\"",
                "own.toml:6: value \"\\0\": it has a NUL",
            ),
            (
                "[[seccomp.allow]]\ncalls = [\n  \"getpid\",\n  \"ptrace\",\n]\nreason = \"x\"",
                "own.toml:7: no policy may allow the system call ptrace: it reaches into other processes",
            ),
            (
                "[[seccomp.allow]]\ncalls = [\"Open\"]\nreason = \"x\"",
                "own.toml:5: system call \"Open\": expected a name",
            ),
            (
                "[limits]\nwall = \"0s\"",
                "own.toml:5: limits.wall \"0s\": it must be from 1s to 60d",
            ),
            (
                "[limits]\npids = 1",
                "own.toml:5: limits.pids \"1\": it must be from 4 to 1048576",
            ),
            (
                "[features]\nlandlock-min-abi = 1",
                "own.toml:5: landlock-min-abi \"1\": it must be at least 2",
            ),
            (
                "[[central.read]]\nglob = \"/a\"\nreason = \"x\"",
                "own.toml:5: glob \"/a\": it begins with '/'",
            ),
            (
                "extends = [\"Base\"]",
                "own.toml:4: name \"Base\": expected 1 to 63",
            ),
            (
                "extends = [\"bse\"]",
                "own.toml:4: there is no policy named bse to extend; there are: base, blender, ffmpeg, generic, own, povray, python, strict",
            ),
            (
                "[seccomp]\nbase = \"renderer-v9\"",
                "own.toml:5: seccomp.base \"renderer-v9\": there is no such list; there are: renderer-v1",
            ),
            ("", "policy own: limits.memory is not set"),
        ] {
            let error = own(text).unwrap_err().to_string();
            assert!(
                error.starts_with(message),
                "{error:?} does not begin with {message:?}"
            );
        }
    }

    #[test]
    fn an_error_cannot_move_the_cursor() {
        for text in [
            "\"\\u001b[2J\" = 1",
            "[[device]]\nname = \"\\u001b[2J\"\nreason = \"x\"",
            "[[device]]\nname = \"null\"\nreason = \"\\u001b[2J\"",
        ] {
            let error = own(text).unwrap_err().to_string();
            assert!(!error.chars().any(char::is_control), "{error:?}");
        }
    }

    #[test]
    fn another_schema_or_another_name_of_the_same_is_refused() {
        let mut catalogue = Catalogue::shipped().unwrap();
        let add = |catalogue: &mut Catalogue, text: &str| {
            catalogue.add(text, "x.toml").unwrap_err().to_string()
        };
        assert_eq!(
            add(&mut catalogue, "schema = 2\nname = \"x\"\nsummary = \"x\""),
            "x.toml:1: schema 2 is not known here, this version of safelight reads schema 1"
        );
        assert_eq!(
            add(
                &mut catalogue,
                "schema = 1\nname = \"base\"\nsummary = \"x\""
            ),
            "x.toml:2: a policy named base exists already"
        );
        assert!(add(&mut catalogue, &" ".repeat(262_145)).contains("is too long (at most 262144)"));
        assert_eq!(
            catalogue.resolve(&name("nope")).unwrap_err().to_string(),
            "there is no policy named nope; there are: base, blender, ffmpeg, generic, povray, python, strict"
        );
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "\\PC*|[a-z=\\[\\]\"{}.\\n# 0-9]{0,200}") {
            let _ = PolicyFile::parse(&text, "x.toml");
        }

        #[test]
        fn no_damaged_policy_breaks_the_parser(at in any::<prop::sample::Index>(), cut in 0..40usize, new in "\\PC{0,6}") {
            let text = include_str!("../profiles/base.toml");
            let start = (0..=text.len()).filter(|i| text.is_char_boundary(*i)).nth(at.index(text.len())).unwrap();
            let end = (start + cut).min(text.len());
            let damaged = format!("{}{new}{}", &text[..start], text.get(end..).unwrap_or_default());
            if let Ok(file) = PolicyFile::parse(&damaged, "x.toml") {
                let _ = file.name();
            }
        }
    }
}

mod resolving {
    use super::*;

    fn catalogue(files: &[(&str, &str)]) -> Catalogue {
        let mut catalogue = Catalogue::shipped().unwrap();
        for (name, text) in files {
            let text = format!("schema = 1\nname = \"{name}\"\nsummary = \"x\"\n{text}");
            catalogue.add(&text, &format!("{name}.toml")).unwrap();
        }
        catalogue
    }

    #[test]
    fn a_circle_is_refused_where_it_closes() {
        let circle = catalogue(&[
            ("a", "extends = [\"b\"]"),
            ("b", "extends = [\"base\", \"a\"]"),
        ]);
        assert_eq!(
            circle.resolve(&name("a")).unwrap_err().to_string(),
            "b.toml:4: a policy cannot extend itself: a -> b -> a"
        );
        let own = catalogue(&[("a", "extends = [\"a\"]")]);
        assert_eq!(
            own.resolve(&name("a")).unwrap_err().to_string(),
            "a.toml:4: a policy cannot extend itself: a -> a"
        );
    }

    #[test]
    fn eight_steps_are_deep_enough() {
        let chain: Vec<_> = (0..9)
            .map(|index| match index {
                0 => ("p0".to_owned(), "extends = [\"generic\"]".to_owned()),
                _ => (
                    format!("p{index}"),
                    format!("extends = [\"p{}\"]", index - 1),
                ),
            })
            .collect();
        let chain: Vec<_> = chain
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        let catalogue = catalogue(&chain);
        // p6 is eight steps above base: p6 .. p0, generic, base.
        assert_eq!(catalogue.resolve(&name("p6")).unwrap().lineage().len(), 9);
        let error = catalogue.resolve(&name("p7")).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "generic.toml:6: policies may extend each other at most 8 deep: p7 -> p6"
            ),
            "{error}"
        );
    }

    #[test]
    fn the_nearest_statement_holds_and_a_shared_base_undoes_nothing() {
        let catalogue = catalogue(&[
            (
                "small",
                "extends = [\"generic\"]\n[limits]\nmemory = \"1GiB\"\nwall = \"1h\"",
            ),
            ("short", "extends = [\"generic\"]\n[limits]\nwall = \"1m\""),
            ("both", "extends = [\"small\", \"short\"]"),
            (
                "nearer",
                "extends = [\"small\", \"short\"]\n[limits]\nwall = \"2h\"",
            ),
        ]);
        let limits = |text: &str| {
            let policy = catalogue.resolve(&name(text)).unwrap();
            (policy.limits().memory >> 30, policy.limits().wall)
        };
        assert_eq!(limits("both"), (1, 60));
        assert_eq!(limits("nearer"), (1, 7200));
        let lineage: Vec<_> = catalogue
            .resolve(&name("both"))
            .unwrap()
            .lineage()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(lineage, ["base", "generic", "small", "short", "both"]);
    }

    #[test]
    fn allowances_unite_and_denials_stay() {
        let catalogue = catalogue(&[
            (
                "tight",
                "extends = [\"generic\"]\n[[central.deny]]\nglob = \"secret/**\"\nreason = \"x\"\n[[seccomp.deny]]\ncalls = [\"link\"]\nreason = \"x\"",
            ),
            (
                "wide",
                "extends = [\"tight\"]\n[[central.read]]\nglob = \"secret/**\"\nreason = \"x\"\n[[seccomp.allow]]\ncalls = [\"link\", \"mbind\"]\nreason = \"x\"",
            ),
        ]);
        let policy = catalogue.resolve(&name("wide")).unwrap();
        let judge = Judge::new(&policy.central_rules()).unwrap();
        assert_eq!(
            judge.decide(b"secret/x", Want::Read),
            Decision::Deny {
                rule: "tight.toml:6: deny \"secret/**\"".to_owned()
            }
        );
        let grant = policy.admit(&Request::default()).unwrap();
        let allows = |call: &str| {
            grant
                .terms()
                .seccomp
                .allow
                .iter()
                .any(|allowed| allowed == call)
        };
        assert!(allows("mbind") && allows("open") && !allows("link"));
    }

    #[test]
    fn central_rules_that_are_not_inherited_are_gone_but_denials_are_not() {
        let policy = own(concat!(
            "extends = [\"generic\"]\n[central]\ninherit = false\n",
            "[[central.read]]\nglob = \"in/**\"\nreason = \"x\"\n[[central.deny]]\nglob = \"in/no\"\nreason = \"x\"",
        ))
        .unwrap();
        let judge = Judge::new(&policy.central_rules()).unwrap();
        assert_eq!(judge.decide(b"in/a", Want::Read), Decision::Allow);
        for (path, want) in [
            ("other", Want::Read),
            ("in/a", Want::Write),
            ("in/no", Want::Read),
        ] {
            assert_ne!(
                judge.decide(path.as_bytes(), want),
                Decision::Allow,
                "{path}"
            );
        }
    }

    #[test]
    fn directories_in_memory_cannot_hide_what_is_bound() {
        for (at, problem) in [
            ("/opt/x/tmp", "it overlaps \"/opt/x\" of own.toml:6"),
            ("/opt", "it overlaps \"/opt/x\" of own.toml:6"),
            ("/tmp/x", "it overlaps \"/tmp/x\" of own.toml:10"),
        ] {
            let error = own(&format!(
                "extends = [\"base\"]\n[[root]]\nat = \"/opt/x\"\nrights = \"r\"\nreason = \"x\"\n\
                 [[tmp]]\nat = \"{at}\"\nsize = \"1MiB\"\ninodes = 1\nreason = \"x\""
            ))
            .unwrap_err();
            assert!(error.to_string().ends_with(problem), "{at}: {error}");
        }
    }

    #[test]
    fn the_digest_is_over_what_is_allowed_only() {
        let text = |reason: &str, size: &str| {
            header(&format!(
                "extends = [\"generic\"]\n[[tmp]]\nat = \"/scratch\"\nsize = \"{size}\"\ninodes = 5\nreason = \"{reason}\""
            ))
        };
        let digest = |text: &str, file: &str| {
            let mut catalogue = Catalogue::shipped().unwrap();
            let name = catalogue.add(text, file).unwrap();
            catalogue.resolve(&name).unwrap().digest()
        };
        let one = digest(&text("a", "1GiB"), "a.toml");
        assert_eq!(
            one,
            digest(
                &format!("# a comment\n{}", text("b", "1024MiB")),
                "elsewhere/b.toml"
            )
        );
        assert_ne!(one, digest(&text("a", "2GiB"), "a.toml"));
    }

    #[test]
    fn what_deserves_a_second_look_is_said_with_its_line() {
        let policy = over_generic(concat!(
            "[features]\nseccomp = \"off\"\n[[root]]\nat = \"/srv\"\nrights = \"r\"\nreason = \"x\"\n",
            "[[root]]\nat = \"/usr/share\"\nrights = \"r\"\nreason = \"x\"\n",
            "[[tmp]]\nat = \"/scratch\"\nsize = \"1TiB\"\ninodes = 1\nexec = true\nreason = \"x\"\n",
            "[[seccomp.deny]]\ncalls = [\"mbind\"]\nreason = \"x\"\n[[central.deny]]\nglob = \"**\"\nreason = \"x\"",
        ));
        let found: Vec<_> = policy
            .warnings()
            .iter()
            .map(|warning| warning.to_string())
            .collect();
        let expected = [
            "own.toml:6: seccomp is off",
            "own.toml:8: root path \"/srv\" is wide",
            "own.toml:12: root path \"/usr/share\" stays executable: it lies below \"/usr\"",
            "own.toml:16: files in \"/scratch\" may be executed",
            "base.toml:",
            "own.toml:22: denying the system call mbind changes nothing",
            "own.toml:25: denying \"**\" denies every central path",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found:?} {expected:?}");
        }
    }
}

mod admitting {
    use super::*;

    #[test]
    fn a_grant_holds_what_the_policy_and_the_request_say() {
        let policy = shipped("generic");
        let mut request = request(&[("/projects", true), ("/assets", false)]);
        request.timeout = Some(60);
        request.env = BTreeMap::from([("TZ".to_owned(), "UTC".to_owned())]);
        let grant = policy.admit(&request).unwrap();
        let terms = grant.terms();
        assert_eq!(
            (terms.policy.as_str(), terms.digest),
            ("generic", policy.digest())
        );
        assert_eq!(terms.limits.wall, 60);
        assert_eq!(terms.limits.term_grace, policy.limits().term_grace);
        assert_eq!(terms.env["TZ"], "UTC");
        assert_eq!(terms.env["HOME"], "/home/render");
        let central: Vec<_> = terms
            .central
            .iter()
            .map(|central| (central.path.as_str(), central.write))
            .collect();
        assert_eq!(central, [("/projects", true), ("/assets", false)]);
        let mut lines = include_str!("../profiles/base.toml").lines();
        let usr_line = lines.position(|line| line == "at = \"/usr\"").unwrap();
        let usr_line = format!("base.toml:{}", usr_line + 1);
        let usr = terms.root.iter().find(|root| root.at == "/usr").unwrap();
        assert_eq!(
            (usr.rights, usr.origin.as_str()),
            (Rights::ReadExecute, usr_line.as_str())
        );
    }

    #[test]
    fn each_denial_names_the_rule() {
        let policy = over_generic(
            "[[root]]\nat = \"/opt/tool\"\nrights = \"rx\"\nreason = \"x\"\n[limits]\nwall = \"1h\"",
        );
        let central = |paths: &[(&str, bool)]| request(paths);
        let timeout = |seconds| Request {
            timeout: Some(seconds),
            ..Request::default()
        };
        let env = |name: &str, value: &str| Request {
            env: BTreeMap::from([(name.to_owned(), value.to_owned())]),
            ..Request::default()
        };
        let many: Vec<_> = (0..17).map(|index| (format!("/c{index}"), true)).collect();
        let many: Vec<_> = many
            .iter()
            .map(|(path, write)| (path.as_str(), *write))
            .collect();
        for (request, message) in [
            (
                central(&[("/a", true), ("/a/b", true)]),
                "the central path /a/b: it overlaps the central path /a (own.toml:2)",
            ),
            (
                central(&[("/a", true), ("/a", false)]),
                "the central path /a: it overlaps the central path /a (own.toml:2)",
            ),
            (
                central(&[("/opt/tool", true)]),
                "the central path /opt/tool: it overlaps /opt/tool, which every session has of its own (own.toml:6)",
            ),
            (
                central(&[("/opt/tool/data", true)]),
                "the central path /opt/tool/data: it overlaps /opt/tool, which every session has of its own (own.toml:6)",
            ),
            (
                central(&[("/home/render/x", true)]),
                "the central path /home/render/x: it overlaps /home/render, which every session has of its own (base.toml)",
            ),
            (
                central(&many),
                "17 central paths: a session has at most 16 (own.toml:2)",
            ),
            (
                timeout(3601),
                "a timeout of 1h1s: its limit is 1h (own.toml:10)",
            ),
            (
                timeout(0),
                "a timeout of 0s: nothing ends in no time (own.toml:10)",
            ),
            (
                timeout(u64::MAX),
                "a timeout of 213503982334601d7h15s: its limit is 1h (own.toml:10)",
            ),
            (
                env("LD_PRELOAD", "x"),
                "the variable \"LD_PRELOAD\": it is not among those that a job may set (own.toml:2)",
            ),
            (
                env("PATH", "x"),
                "the variable \"PATH\": it is not among those that a job may set (base.toml)",
            ),
            (
                env("TZ", "a\0b"),
                "the variable \"TZ\": its value has a NUL (own.toml:2)",
            ),
            (
                env("A=B", "x"),
                "the variable \"A=B\": expected up to 128 letters, digits and underscores, no digit first (own.toml:2)",
            ),
            (
                env("TZ", &"x".repeat(65_536)),
                "65540 bytes of variables: at most 65536 are taken (own.toml:2)",
            ),
        ] {
            let denied = policy.admit(&request).unwrap_err();
            assert_eq!(
                unnumbered(&denied.to_string()),
                format!("the policy own denies {message}")
            );
        }
        assert_eq!(
            policy
                .admit(&central(&[("/opt/toolbox", true)]))
                .unwrap()
                .terms()
                .central
                .len(),
            1
        );
    }

    proptest! {
        #[test]
        fn a_request_only_narrows(timeout in proptest::option::of(0u64..200_000), write: bool, own in any::<bool>()) {
            let policy = shipped("blender");
            let all = policy.admit(&request(&[("/projects", true)])).unwrap();
            let mut asked = request(&[("/projects", write)]);
            asked.timeout = timeout;
            if own {
                asked.env.insert("TZ".to_owned(), "UTC".to_owned());
            }
            let Ok(grant) = policy.admit(&asked) else { return Ok(()) };
            let (all, terms) = (all.terms(), grant.terms());
            prop_assert!(terms.limits.wall <= all.limits.wall && terms.limits.wall > 0);
            prop_assert!(terms.central[0].write == write);
            prop_assert_eq!(&terms.central[0].rules, &all.central[0].rules);
            let mut rest = terms.clone();
            rest.limits.wall = all.limits.wall;
            rest.central = all.central.clone();
            rest.env.remove("TZ");
            prop_assert_eq!(&rest, all);
        }
    }
}

mod explaining {
    use super::*;

    fn explain(policy: &Policy, query: Query<'_>) -> (Verdict, String) {
        let answer = policy.explain(query).unwrap();
        (
            answer.verdict,
            unnumbered(&format!(
                "{} ({})",
                answer.rule,
                answer.origin.unwrap_or_else(|| "-".to_owned())
            )),
        )
    }

    #[test]
    fn every_path_has_an_answer_and_a_line() {
        let policy = over_generic(
            "[[central.deny]]\nglob = \"**/.git/**\"\nreason = \"history is not rendered\"",
        );
        for (path, verdict, rule) in [
            (
                "/usr/bin/povray",
                Verdict::ReadExecute,
                "root /usr (base.toml)",
            ),
            (
                "/etc/fonts/fonts.conf",
                Verdict::Read,
                "root /etc/fonts (base.toml)",
            ),
            ("/tmp/x", Verdict::ReadWrite, "tmp /tmp (base.toml)"),
            ("/dev/null", Verdict::ReadWrite, "device null (base.toml)"),
            (
                "/dev/fuse",
                Verdict::Absent,
                "no root path, tmp directory or device covers it (-)",
            ),
            ("/etc/passwd", Verdict::Read, "the session has its own (-)"),
            (
                "/etc/shadow",
                Verdict::Absent,
                "no root path, tmp directory or device covers it (-)",
            ),
            ("/etc", Verdict::Traverse, "a directory on the way (-)"),
            ("/", Verdict::Traverse, "a directory on the way (-)"),
            (
                "/proc/self/maps",
                Verdict::Read,
                "the session has its own /proc (-)",
            ),
            (
                "/usr/../etc/shadow",
                Verdict::Denied,
                "the path is not normal (-)",
            ),
            (
                "/usrlocal",
                Verdict::Absent,
                "no root path, tmp directory or device covers it (-)",
            ),
            (
                "scene.blend",
                Verdict::ReadWrite,
                "central write \"**\" (generic.toml)",
            ),
            (
                "show/.git/config",
                Verdict::Denied,
                "central deny \"**/.git/**\" (own.toml:6)",
            ),
            ("../x", Verdict::Denied, "the path is not normal (-)"),
        ] {
            assert_eq!(
                explain(&policy, Query::Path(path)),
                (verdict, rule.to_owned()),
                "{path}"
            );
        }
        let why = policy.explain(Query::Path("show/.git")).unwrap().why;
        assert_eq!(why, "history is not rendered");
    }

    #[test]
    fn a_path_on_the_way_or_half_allowed_is_told_apart() {
        let policy = over_generic(concat!(
            "[central]\ninherit = false\n[[central.read]]\nglob = \"in/**\"\nreason = \"x\"\n",
            "[[central.write]]\nglob = \"out/a/**\"\nreason = \"x\"",
        ));
        for (path, verdict) in [
            ("in/x", Verdict::Read),
            ("out/a/x", Verdict::Write),
            ("out", Verdict::Traverse),
            ("", Verdict::Traverse),
            ("other", Verdict::Denied),
        ] {
            assert_eq!(explain(&policy, Query::Path(path)).0, verdict, "{path}");
        }
    }

    #[test]
    fn calls_and_addresses_have_answers() {
        let policy = over_generic("[[seccomp.deny]]\ncalls = [\"link\"]\nreason = \"x\"");
        for (call, verdict, rule) in [
            (
                "openat",
                Verdict::Allowed,
                "seccomp allow openat (seccomp/renderer-v1.toml)",
            ),
            (
                "clone",
                Verdict::Filtered,
                "seccomp allow clone (seccomp/renderer-v1.toml)",
            ),
            ("link", Verdict::Denied, "seccomp deny link (own.toml:6)"),
            ("ptrace", Verdict::Denied, "no policy may allow it (-)"),
            (
                "mbind",
                Verdict::Denied,
                "no seccomp rule allows it (base.toml)",
            ),
            (
                "no_such",
                Verdict::Denied,
                "no seccomp rule allows it (base.toml)",
            ),
        ] {
            assert_eq!(
                explain(&policy, Query::Syscall(call)),
                (verdict, rule.to_owned()),
                "{call}"
            );
        }
        let network = |policy: &Policy| explain(policy, Query::Address("192.0.2.1:80")).0;
        assert_eq!(network(&policy), Verdict::Denied);
        assert_eq!(
            network(&over_generic(
                "[features]\nnetwork-namespace = \"best-effort\""
            )),
            Verdict::Filtered
        );
        assert_eq!(
            network(&over_generic("[features]\nnetwork-namespace = \"off\"")),
            Verdict::Allowed
        );
    }

    #[test]
    fn an_address_is_reached_if_it_is_named_with_its_port() {
        let named = "[[reach]]\ntcp = \"192.0.2.10:27000\"\nreason = \"licences\"";
        let policy = over_generic(named);
        let verdict = |address: &str| explain(&policy, Query::Address(address)).0;
        assert_eq!(verdict("192.0.2.10:27000"), Verdict::Allowed);
        assert_eq!(verdict("tcp:192.0.2.10:27000"), Verdict::Allowed);
        for other in [
            "192.0.2.10:27001",
            "192.0.2.10",
            "192.0.2.11:27000",
            "udp:192.0.2.10:27000",
            "licences:27000",
        ] {
            assert_eq!(verdict(other), Verdict::Denied, "{other}");
        }
        let grant = policy.admit(&request(&[])).unwrap();
        assert_eq!(grant.terms().reach, ["192.0.2.10:27000".parse().unwrap()]);
        let more = over_generic("").diff(&policy).more;
        let [more] = &more[..] else {
            panic!("{more:#?}");
        };
        assert_eq!(more.text, "reach 192.0.2.10:27000 by TCP");
        // What is not one host's, and what would be reached anyway.
        for wrong in [
            "[[reach]]\ntcp = \"licences:27000\"\nreason = \"x\"",
            "[[reach]]\ntcp = \"192.0.2.10:27000\"",
            &format!("{named}\n[features]\nnetwork-namespace = \"off\""),
            &(0..17)
                .map(|n| format!("[[reach]]\ntcp = \"192.0.2.{n}:1\"\nreason = \"x\"\n"))
                .collect::<String>(),
        ] {
            let refused = own(&format!("extends = [\"generic\"]\n{wrong}"));
            assert!(refused.is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_of_disks_is_none_unless_it_is_said_and_any_is_less_than_none() {
        let (free, slow) = (over_generic(""), over_generic("[limits]\nio = \"4MiB\""));
        assert_eq!((free.limits().io, slow.limits().io), (None, Some(4 << 20)));
        assert!(slow.canonical().contains("\nlimits.io 4MiB\n"));
        let diff = free.diff(&slow);
        assert!(diff.more.is_empty() && diff.less.len() == 1, "{diff:#?}");
        assert!(own("extends = [\"generic\"]\n[limits]\nio = \"1KiB\"").is_err());
    }

    proptest! {
        #[test]
        fn what_is_explained_is_what_is_decided(path in "[a-c./]{0,8}") {
            let policy = over_generic("[central]\ninherit = false\n[[central.read]]\nglob = \"a/**\"\nreason = \"x\"\n[[central.write]]\nglob = \"**/b\"\nreason = \"x\"\n[[central.deny]]\nglob = \"a/c\"\nreason = \"x\"");
            prop_assume!(!path.starts_with('/'));
            let judge = Judge::new(&policy.central_rules()).unwrap();
            let may = |want| judge.decide(path.as_bytes(), want) == Decision::Allow;
            let expected = match (may(Want::Read), may(Want::Write), may(Want::Traverse)) {
                (true, true, _) => Verdict::ReadWrite,
                (true, false, _) => Verdict::Read,
                (false, true, _) => Verdict::Write,
                (false, false, true) => Verdict::Traverse,
                (false, false, false) => Verdict::Denied,
            };
            prop_assert_eq!(policy.explain(Query::Path(&path)).unwrap().verdict, expected);
        }
    }
}

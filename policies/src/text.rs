//! The shape of a policy file, exactly as it is written.
//!
//! Unknown fields are errors everywhere, and every allowance has a `reason`. Nothing is checked here beyond the shape.

use serde::Deserialize;
use serde_spanned::Spanned;

use crate::grant::{Missing, OnDeny, Requirement, Rights};

/// A whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyText {
    pub(crate) schema: Spanned<u32>,
    pub(crate) name: Spanned<String>,
    pub(crate) summary: Spanned<String>,
    #[serde(default)]
    pub(crate) extends: Vec<Spanned<String>>,
    #[serde(default)]
    pub(crate) root: Vec<RootText>,
    #[serde(default)]
    pub(crate) tmp: Vec<TmpText>,
    #[serde(default)]
    pub(crate) device: Vec<NameText>,
    #[serde(default)]
    pub(crate) env: Vec<EnvText>,
    #[serde(default)]
    pub(crate) env_pass: Vec<NameText>,
    #[serde(default)]
    pub(crate) reach: Vec<ReachText>,
    #[serde(default)]
    pub(crate) seccomp: SeccompText,
    #[serde(default)]
    pub(crate) limits: LimitsText,
    #[serde(default)]
    pub(crate) features: FeaturesText,
    #[serde(default)]
    pub(crate) central: CentralText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RootText {
    pub(crate) at: Spanned<String>,
    pub(crate) rights: Rights,
    #[serde(default = "missing_is_an_error")]
    pub(crate) missing: Missing,
    pub(crate) reason: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReachText {
    pub(crate) tcp: Spanned<String>,
    pub(crate) reason: Spanned<String>,
}

fn missing_is_an_error() -> Missing {
    Missing::Error
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TmpText {
    pub(crate) at: Spanned<String>,
    pub(crate) size: Spanned<String>,
    pub(crate) inodes: Spanned<u64>,
    #[serde(default)]
    pub(crate) exec: bool,
    pub(crate) reason: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NameText {
    pub(crate) name: Spanned<String>,
    pub(crate) reason: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvText {
    pub(crate) name: Spanned<String>,
    pub(crate) value: Spanned<String>,
    pub(crate) reason: Spanned<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeccompText {
    pub(crate) base: Option<Spanned<String>>,
    pub(crate) on_deny: Option<Spanned<OnDeny>>,
    #[serde(default)]
    pub(crate) allow: Vec<CallsText>,
    #[serde(default)]
    pub(crate) deny: Vec<CallsText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallsText {
    pub(crate) calls: Vec<Spanned<String>>,
    pub(crate) reason: Spanned<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsText {
    pub(crate) memory: Option<Spanned<String>>,
    pub(crate) pids: Option<Spanned<u64>>,
    pub(crate) wall: Option<Spanned<String>>,
    pub(crate) term_grace: Option<Spanned<String>>,
    pub(crate) output: Option<Spanned<String>>,
    pub(crate) files: Option<Spanned<u64>>,
    pub(crate) quota: Option<Spanned<String>>,
    pub(crate) entries: Option<Spanned<u64>>,
    pub(crate) records: Option<Spanned<String>>,
    pub(crate) io: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct FeaturesText {
    pub(crate) landlock: Option<Spanned<Requirement>>,
    pub(crate) landlock_min_abi: Option<Spanned<u32>>,
    pub(crate) seccomp: Option<Spanned<Requirement>>,
    pub(crate) user_namespace: Option<Spanned<Requirement>>,
    pub(crate) namespaces: Option<Spanned<Requirement>>,
    pub(crate) network_namespace: Option<Spanned<Requirement>>,
    pub(crate) fuse: Option<Spanned<Requirement>>,
    pub(crate) cgroup_kill: Option<Spanned<Requirement>>,
    pub(crate) cgroup_limits: Option<Spanned<Requirement>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct CentralText {
    pub(crate) inherit: Option<Spanned<bool>>,
    #[serde(default)]
    pub(crate) read: Vec<GlobText>,
    #[serde(default)]
    pub(crate) write: Vec<GlobText>,
    #[serde(default)]
    pub(crate) deny: Vec<GlobText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GlobText {
    pub(crate) glob: Spanned<String>,
    pub(crate) reason: Spanned<String>,
}

/// A list of system calls under a version, which policies build on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallListText {
    pub(crate) schema: Spanned<u32>,
    pub(crate) name: Spanned<String>,
    pub(crate) allow: Vec<CallsText>,
}

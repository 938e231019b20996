//! What the site's owner does to the warden: enrolling keys and minting prekeys.
//!
//! In root mode the store belongs to the warden's user, so each act is a short process of that user. Public keys travel in arguments;
//! a secret never leaves the store.

use std::{
    fs::File,
    io::Write,
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Command, Stdio},
};

use data_encoding::HEXLOWER;
use safelight_bundle::{Envelope, Prekey};
use safelight_policies::id::{ClientAlias, GrantId, JobId, NodeName, VerifyKey};
use safelight_seal::random::Random;

use super::store::{self, Role, Store};
use crate::{
    failure::{Failure, Kind, OrFail},
    process,
    state::{State, user},
};

/// Trusts a client's key: its envelopes are believed from now on.
pub(crate) fn enroll_client(
    state: &State,
    alias: &ClientAlias,
    key: &VerifyKey,
) -> Result<(), Failure> {
    enroll(state, Role::Client, alias.as_str(), key)
}

/// Trusts a node's key: job keys may be released to its view servers.
pub(crate) fn enroll_node(state: &State, node: &NodeName, key: &VerifyKey) -> Result<(), Failure> {
    enroll(state, Role::Node, node.as_str(), key)
}

/// Trusts the schedule server's key: its leases are believed.
pub(crate) fn enroll_schedule(state: &State, key: &VerifyKey) -> Result<(), Failure> {
    enroll(state, Role::Schedule, "-", key)
}

/// The key of a client that was enrolled.
pub(crate) fn enrolled_client(state: &State, alias: &ClientAlias) -> Result<VerifyKey, Failure> {
    store::trusted(&state.warden(), Role::Client, alias.as_str())
        .or_fail(Kind::Environment)?
        .ok_or_else(|| Failure::new(Kind::Denied, format!("the client {alias} is not enrolled")))
}

/// The key of a node that was enrolled.
pub(crate) fn enrolled_node(state: &State, node: &NodeName) -> Result<Option<VerifyKey>, Failure> {
    store::trusted(&state.warden(), Role::Node, node.as_str()).or_fail(Kind::Environment)
}

/// Trusts a client no longer.
pub(crate) fn revoke_client(state: &State, alias: &ClientAlias) -> Result<(), Failure> {
    as_warden(state, &["revoke", "--store", ".", "client", alias.as_str()]).map(drop)
}

/// Trusts a node no longer.
pub(crate) fn revoke_node(state: &State, node: &NodeName) -> Result<(), Failure> {
    as_warden(state, &["revoke", "--store", ".", "node", node.as_str()]).map(drop)
}

/// Notes that a client revoked a grant: nobody looks by it any more.
pub(crate) fn withdraw(
    state: &State,
    client: &ClientAlias,
    number: GrantId,
) -> Result<(), Failure> {
    let number = number.to_string();
    let words = ["withdraw", "--store", ".", client.as_str(), &number];
    as_warden(state, &words).map(drop)
}

/// True if a client revoked this grant.
pub(crate) fn is_withdrawn(
    state: &State,
    client: &ClientAlias,
    number: GrantId,
) -> Result<bool, Failure> {
    let path = store::withdrawn_path(&state.warden(), client, number);
    path.try_exists().or_fail(Kind::Environment)
}

/// Erases the prekey that opens a job: from then on this site has no way into it.
pub(crate) fn erase(state: &State, job: JobId) -> Result<(), Failure> {
    let signed = crate::jobs::read(&state.job(job)?.join("envelope"))?;
    // It was verified when it came; a prekey of another job is not erased for this one.
    let client = safelight_bundle::claimed_signer(&signed).or_fail(Kind::Internal)?;
    let envelope: Envelope = safelight_bundle::open(&signed, &client).or_fail(Kind::Internal)?;
    let prekey = HEXLOWER.encode(&envelope.prekey);
    let job = job.to_string();
    as_warden(state, &["erase", "--store", ".", &job, &prekey]).map(drop)
}

/// True if this site can still open what was wrapped to a prekey.
pub(crate) fn has_prekey(state: &State, prekey: &[u8; 16]) -> Result<bool, Failure> {
    let path = state.warden().join("prekeys").join(HEXLOWER.encode(prekey));
    path.try_exists().or_fail(Kind::Environment)
}

/// Reads a prekey's id of 32 hexadecimal digits.
pub(super) fn parse_prekey(text: &str) -> Result<[u8; 16], Failure> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| Failure::new(Kind::User, "a prekey's id is 32 hexadecimal digits"))
}

/// A new one-time prekey of this host's warden.
pub(crate) fn mint_prekey(state: &State) -> Result<Prekey, Failure> {
    let line = as_warden(state, &["prekey", "--store", "."])?;
    let signed = HEXLOWER.decode(line.trim_ascii()).or_fail(Kind::Internal)?;
    // The line came from the process that we started: the site that it names is the one that we asked.
    let site = safelight_bundle::claimed_signer(&signed).or_fail(Kind::Internal)?;
    safelight_bundle::open(&signed, &site).or_fail(Kind::Internal)
}

fn enroll(state: &State, role: Role, name: &str, key: &VerifyKey) -> Result<(), Failure> {
    // Asking is cheaper than a process, and enrolling the same key again changes nothing.
    let known = store::trusted(&state.warden(), role, name).or_fail(Kind::Environment)?;
    if known == Some(*key) {
        return Ok(());
    }
    let role = match role {
        Role::Client => "client",
        Role::Node => "node",
        Role::Schedule => "schedule",
    };
    // Neither a name nor '-' alone can be taken for an option.
    let key = HEXLOWER.encode(&key.0);
    as_warden(state, &["enroll", "--store", ".", role, name, &key]).map(drop)
}

/// Runs one of the warden's commands as the warden's user in its store; answers what it printed.
fn as_warden(state: &State, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
    let store = File::open(state.warden()).or_fail(Kind::Environment)?;
    let mut command = Command::new(process::executable()?);
    command
        .arg("keyd")
        .args(arguments)
        .env_clear()
        .current_dir(format!("/proc/self/fd/{}", store.as_raw_fd()))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if state.is_privileged() {
        command.uid(user::WARDEN).gid(user::WARDEN);
    }
    let output = command.output().or_fail(Kind::Environment)?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        let act = arguments.first().copied().unwrap_or_default();
        Err(Failure::new(
            Kind::Environment,
            format!("the key warden cannot {act}"),
        ))
    }
}

/// Mints a prekey and prints it, signed, in hexadecimal digits.
pub(super) fn print_prekey(store: &Store, rng: &dyn Random, now: u64) -> Result<(), Failure> {
    let signed = mint(store, rng, now)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", HEXLOWER.encode(&signed)).or_fail(Kind::Environment)
}

/// A new prekey, signed by the site.
pub(super) fn mint(store: &Store, rng: &dyn Random, now: u64) -> Result<Vec<u8>, Failure> {
    let (id, key) = store.mint(rng).or_fail(Kind::Environment)?;
    let site = store.signing();
    let prekey = Prekey {
        id,
        key,
        site: site.public(),
        issued: now,
    };
    let sign = |context: &str, bytes: &[u8]| site.sign(context, bytes);
    safelight_bundle::seal(&prekey, &site.public(), sign).or_fail(Kind::Internal)
}

/// Reads a public key of 64 hexadecimal digits.
pub(crate) fn parse_key(text: &str) -> Result<VerifyKey, Failure> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .map(VerifyKey)
        .ok_or_else(|| Failure::new(Kind::User, "a public key is 64 hexadecimal digits"))
}

//! No capability now, and none that `execve` could give back.

use caps::{CapSet, Capability};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    set_capabilities, set_capabilities_secure_bits,
};

use super::{At, failed};
use crate::message::Failed;

/// Empties every set for good: bounding first, while we may, then the securebits, locked, then the rest.
pub(crate) fn drop_for_good() -> Result<(), Failed> {
    for capability in caps::runtime::thread_all_supported() {
        drop_from_bounding(capability)?;
    }
    clear_ambient_capability_set().at("ambient capabilities")?;
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    set_capabilities_secure_bits(bits).at("securebits")?;
    drop_all()
}

/// Empties the present sets. Enough for PID 1, which never calls `execve`.
pub(crate) fn drop_all() -> Result<(), Failed> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).at("capabilities")
}

fn drop_from_bounding(capability: Capability) -> Result<(), Failed> {
    caps::drop(None, CapSet::Bounding, capability)
        .map_err(|_| failed("bounding set", &capability.to_string(), libc::EPERM))
}

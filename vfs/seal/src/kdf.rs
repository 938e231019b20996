//! HKDF-SHA-256 (RFC 5869): one secret in, independent keys out.

use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use zeroize::Zeroizing;

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Derives `N` bytes (at most 8,160). `info` is concatenated: callers separate its parts by fixed lengths or a length prefix.
#[expect(
    clippy::expect_used,
    reason = "HKDF refuses only outputs of more than 255 hashes, and N is a constant"
)]
pub(crate) fn derive<const N: usize>(
    secret: &[u8],
    salt: &[u8],
    info: &[&[u8]],
) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 255 * 32) };
    let mut out = Zeroizing::new([0; N]);
    Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, Length(N))
        .and_then(|okm| okm.fill(&mut out[..]))
        .expect("a length that HKDF can derive");
    out
}

/// Derives a cipher key and a commitment to it.
///
/// AES-GCM alone does not commit to its key: one ciphertext can be made to open under two keys. Publishing a second, independent output
/// of the same derivation and comparing it first closes that.
pub(crate) fn derive_committed(
    secret: &[u8],
    salt: &[u8],
    info: &[&[u8]],
) -> (Zeroizing<[u8; 32]>, [u8; 32]) {
    let both = derive::<64>(secret, salt, info);
    let mut key = Zeroizing::new([0; 32]);
    let mut commitment = [0; 32];
    key.copy_from_slice(&both[..32]);
    commitment.copy_from_slice(&both[32..]);
    (key, commitment)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5869, appendix A.1 and A.3.
    #[test]
    fn the_rfc_vectors_hold() {
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        let okm = derive::<42>(
            &[0x0b; 22],
            &hex("000102030405060708090a0b0c"),
            &[&hex("f0f1f2f3f4"), &hex("f5f6f7f8f9")],
        );
        assert_eq!(
            okm[..],
            hex(
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
            )
        );
        let okm = derive::<42>(&[0x0b; 22], b"", &[]);
        assert_eq!(
            okm[..],
            hex(
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
            )
        );
    }
}

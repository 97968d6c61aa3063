//! How secrets are sealed: Argon2id (RFC 9106) makes a key of the passphrase, which wraps the
//! keyring, which seals each entry with XChaCha20-Poly1305 and its name and kind as associated data.
//! A sealed text is nonce ‖ ciphertext.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

/// Bytes of an XChaCha20 nonce: long enough to be random.
const NONCE_BYTES: usize = 24;

/// Memory for one try of a passphrase, KiB: 64 MiB makes guessing on graphics cards dear.
const MEMORY_KIB: u32 = 64 * 1024;

/// Passes over that memory.
const PASSES: u32 = 3;

/// Most that a stored lock may ask for: a damaged row must not take the machine's memory.
const MAX_MEMORY_KIB: u32 = 1 << 20;

/// What opens nothing: a wrong passphrase, or bytes that were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not open: the passphrase is wrong, or what is stored was changed")]
pub struct DoesNotOpen;

/// A key in memory; wiped when dropped.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// A new one.
    pub fn random() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rand::fill(&mut bytes[..]);
        Self(bytes)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }

    /// Seals a text for a purpose. It opens with the same purpose only.
    ///
    /// # Errors
    /// When it is longer than the cipher can take.
    pub fn seal(&self, purpose: &[&str], plain: &[u8]) -> Result<Vec<u8>, DoesNotOpen> {
        let mut nonce = [0; NONCE_BYTES];
        rand::fill(&mut nonce);
        let aad = associated(purpose);
        let payload = Payload { msg: plain, aad: &aad };
        let sealed =
            self.cipher().encrypt(&XNonce::from(nonce), payload).map_err(|_| DoesNotOpen)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what was sealed for the same purpose.
    ///
    /// # Errors
    /// When key, purpose or bytes are not what they were.
    pub fn open(&self, purpose: &[&str], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(DoesNotOpen)?;
        let aad = associated(purpose);
        let payload = Payload { msg: text, aad: &aad };
        let plain = self.cipher().decrypt(&XNonce::from(*nonce), payload);
        plain.map(Zeroizing::new).map_err(|_| DoesNotOpen)
    }
}

/// Each part after its length, so that no two purposes have the same bytes.
fn associated(purpose: &[&str]) -> Vec<u8> {
    let mut bytes = b"reeve vault 1".to_vec();
    for part in purpose {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    bytes
}

/// How a keyring is locked.
pub struct Lock {
    pub salt: Vec<u8>,
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
    /// The keyring, sealed with the key of the passphrase.
    pub keyring: Vec<u8>,
}

impl Lock {
    /// Locks a keyring with a passphrase. Takes a good part of a second of CPU.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn new(passphrase: &[u8], coordinator: &str, keyring: &Key) -> Result<Self, DoesNotOpen> {
        let mut salt = vec![0; 16];
        rand::fill(&mut salt[..]);
        let mut lock =
            Self { salt, memory_kib: MEMORY_KIB, passes: PASSES, lanes: 1, keyring: Vec::new() };
        lock.keyring = lock.key(passphrase)?.seal(&["keyring", coordinator], &keyring.0[..])?;
        Ok(lock)
    }

    /// The keyring. Takes a good part of a second of CPU.
    ///
    /// # Errors
    /// When the passphrase is wrong.
    pub fn open(&self, passphrase: &[u8], coordinator: &str) -> Result<Key, DoesNotOpen> {
        let plain = self.key(passphrase)?.open(&["keyring", coordinator], &self.keyring)?;
        let bytes: [u8; 32] = plain.as_slice().try_into().map_err(|_| DoesNotOpen)?;
        Ok(Key(Zeroizing::new(bytes)))
    }

    fn key(&self, passphrase: &[u8]) -> Result<Key, DoesNotOpen> {
        if self.memory_kib > MAX_MEMORY_KIB || self.passes > 64 || self.lanes > 16 {
            return Err(DoesNotOpen);
        }
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32))
            .map_err(|_| DoesNotOpen)?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase, &self.salt, &mut key[..])
            .map_err(|_| DoesNotOpen)?;
        Ok(Key(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_for_its_own_purpose_only() {
        let key = Key::random();
        let sealed = key.seal(&["entry", "openai", "api_key"], b"secret").expect("sealed");
        let open = |purpose: &[&str]| key.open(purpose, &sealed).map(|plain| plain.to_vec());
        assert_eq!(open(&["entry", "openai", "api_key"]), Ok(b"secret".to_vec()));
        assert_eq!(open(&["entry", "openai", "oauth"]), Err(DoesNotOpen));
        assert_eq!(open(&["entry", "openaiapi", "_key"]), Err(DoesNotOpen));
        assert!(Key::random().open(&["entry", "openai", "api_key"], &sealed).is_err());
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let key = Key::random();
        let sealed = key.seal(&["x"], b"secret").expect("sealed");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open(&["x"], &changed).is_err(), "byte {at}");
            assert!(key.open(&["x"], &sealed[..at]).is_err(), "length {at}");
        }
    }

    #[test]
    fn the_same_text_is_never_sealed_to_the_same_bytes() {
        let key = Key::random();
        assert_ne!(
            key.seal(&["x"], b"s").expect("sealed"),
            key.seal(&["x"], b"s").expect("sealed")
        );
    }

    #[test]
    fn a_keyring_opens_with_its_passphrase_on_its_coordinator_only() {
        let keyring = Key::random();
        let lock = Lock::new(b"a long passphrase", "one", &keyring).expect("locked");
        let sealed = keyring.seal(&["x"], b"secret").expect("sealed");
        let again = lock.open(b"a long passphrase", "one").expect("opens");
        assert_eq!(again.open(&["x"], &sealed).expect("opens").as_slice(), b"secret");
        assert!(lock.open(b"a long passphrasf", "one").is_err());
        assert!(lock.open(b"a long passphrase", "two").is_err());
        let greedy = Lock { memory_kib: u32::MAX, ..lock };
        assert!(greedy.open(b"a long passphrase", "one").is_err());
    }
}

//! Which AES does an NTAG 424 DNA speak?
//!
//! AES-128 with CMAC (RFC 4493), its mac cut to every second byte, CBC without padding of its own,
//! and one key for each tag after AN10922.

use alloc::vec::Vec;
use core::fmt;

use aes::Aes128;
use cbc::cipher::{
    Array, Block, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, KeyInit, KeyIvInit,
};
use cmac::{Cmac, Mac};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of a key, and of a block.
pub const AES_BYTES: usize = 16;
/// Bytes of a mac on the wire.
pub const MAC_BYTES: usize = 8;
/// Most bytes that a key may be diversified by.
pub const DIVERSIFIED_BY_MAX: usize = 31;

/// What AN10922 puts in front of the input of a 128-bit key.
const AN10922_AES_128: u8 = 0x01;

/// A key of a tag. Mute: it is neither printed nor compared in the open.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct AesKey([u8; AES_BYTES]);

impl AesKey {
    /// What every tag is delivered with.
    pub const DELIVERY: Self = Self([0; AES_BYTES]);

    pub fn from_bytes(bytes: [u8; AES_BYTES]) -> Self {
        Self(bytes)
    }

    /// The raw key, for the one place that stores it and the one that puts it on a tag.
    pub fn expose(&self) -> &[u8; AES_BYTES] {
        &self.0
    }

    /// CMAC over the parts, one behind the other.
    pub fn cmac(&self, parts: &[&[u8]]) -> [u8; AES_BYTES] {
        let mut mac = Cmac::<Aes128>::new(&self.0.into());
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }

    /// The mac as tags write it: every second byte of the CMAC.
    pub fn short_mac(&self, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
        let whole = self.cmac(parts);
        core::array::from_fn(|i| whole[2 * i + 1])
    }

    /// One block, as initial vectors are made.
    pub fn encrypt_block(&self, block: [u8; AES_BYTES]) -> [u8; AES_BYTES] {
        let mut block = Block::<Aes128>::from(block);
        Aes128::new(&self.0.into()).encrypt_block(&mut block);
        block.into()
    }

    /// CBC in place; false, and nothing done, if these are not whole blocks.
    #[must_use]
    pub fn encrypt(&self, iv: [u8; AES_BYTES], data: &mut [u8]) -> bool {
        let (blocks, rest) = Array::slice_as_chunks_mut(data);
        let is_whole = rest.is_empty();
        if is_whole {
            cbc::Encryptor::<Aes128>::new(&self.0.into(), &iv.into()).encrypt_blocks(blocks);
        }
        is_whole
    }

    /// The way back.
    #[must_use]
    pub fn decrypt(&self, iv: [u8; AES_BYTES], data: &mut [u8]) -> bool {
        let (blocks, rest) = Array::slice_as_chunks_mut(data);
        let is_whole = rest.is_empty();
        if is_whole {
            cbc::Decryptor::<Aes128>::new(&self.0.into(), &iv.into()).decrypt_blocks(blocks);
        }
        is_whole
    }

    /// The key of what `by` names, after AN10922; `None` if `by` is empty or too long.
    pub fn diversified(&self, by: &[u8]) -> Option<Self> {
        let fits = (1..=DIVERSIFIED_BY_MAX).contains(&by.len());
        fits.then(|| Self(self.cmac(&[&diversification_input(by)])))
    }
}

/// What an HSM computes CMAC over, under a master key, to diversify it.
pub fn diversification_input(by: &[u8]) -> Vec<u8> {
    let mut input = Vec::with_capacity(by.len() + 1);
    input.push(AN10922_AES_128);
    input.extend_from_slice(by);
    input
}

impl fmt::Debug for AesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AesKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        core::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
    }

    #[test]
    fn a_key_is_diversified_as_an10922_shows() {
        let master = AesKey::from_bytes(bytes("00112233445566778899AABBCCDDEEFF"));
        let by: [u8; 17] = bytes("04782E21801D803042F54E585020416275");
        let key = master.diversified(&by).unwrap();
        assert_eq!(
            key.expose(),
            &bytes::<16>("A8DD63A3B89D54B37CA802473FDA9175")
        );
        assert!(master.diversified(&[]).is_none());
        assert!(master.diversified(&[0; DIVERSIFIED_BY_MAX + 1]).is_none());
    }

    #[test]
    fn the_short_mac_is_every_second_byte_from_the_second_on() {
        let key = AesKey::from_bytes(bytes("8248134A386E86EB7FAF54A52E536CB6"));
        let input: [u8; 8] = bytes("F500007A21085E02");
        assert_eq!(
            key.cmac(&[&input]),
            bytes("B565AC978FA46D5784C845CD1444102C")
        );
        assert_eq!(key.short_mac(&[&input]), bytes("6597A457C8CD442C"));
        assert_eq!(
            key.short_mac(&[&input[..3], &input[3..]]),
            bytes("6597A457C8CD442C")
        );
    }

    #[test]
    fn cbc_goes_there_and_back_and_refuses_half_a_block() {
        let key = AesKey::from_bytes([7; 16]);
        let mut data = [9; 48];
        assert!(key.encrypt([1; 16], &mut data));
        assert_ne!(data[..16], data[16..32]);
        assert!(key.decrypt([1; 16], &mut data));
        assert_eq!(data, [9; 48]);
        assert!(!key.encrypt([1; 16], &mut data[..20]));
        assert_eq!(data, [9; 48]);
    }

    #[test]
    fn a_key_does_not_print_itself() {
        let key = AesKey::from_bytes([0xAB; 16]);
        assert_eq!(alloc::format!("{key:?}"), "AesKey(…)");
    }
}

//! Checksums of uploads.

use std::fs::File;
use std::io::{Read, Seek};

use md5::Md5;
use pve_task::{TaskError, Worker};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::digest::DynDigest;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::{CHUNK, ImportError};
use crate::error::StorageError;

/// How a checksum is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The algorithm that a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "md5" => Self::Md5,
            "sha1" => Self::Sha1,
            "sha224" => Self::Sha224,
            "sha256" => Self::Sha256,
            "sha384" => Self::Sha384,
            "sha512" => Self::Sha512,
            _ => return None,
        })
    }

    fn digest(self) -> Box<dyn DynDigest> {
        match self {
            Self::Md5 => Box::new(Md5::default()),
            Self::Sha1 => Box::new(Sha1::default()),
            Self::Sha224 => Box::new(Sha224::default()),
            Self::Sha256 => Box::new(Sha256::default()),
            Self::Sha384 => Box::new(Sha384::default()),
            Self::Sha512 => Box::new(Sha512::default()),
        }
    }
}

/// What a file's checksum is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// How it is made.
    pub algorithm: Algorithm,
    /// Its value: hex digits in any case.
    pub value: String,
}

/// Reads a file to its end and compares.
pub(super) fn verify(file: &mut File, checksum: &Checksum, worker: &Worker) -> Result<(), TaskError> {
    file.rewind()?;
    let mut digest = checksum.algorithm.digest();
    let mut buffer = vec![0; CHUNK];
    loop {
        worker.check_interrupt()?;
        let length = file.read(&mut buffer)?;
        match buffer.get(..length) {
            Some(chunk) if !chunk.is_empty() => digest.update(chunk),
            _ => break,
        }
    }
    let got = hex::encode(digest.finalize());
    if got.eq_ignore_ascii_case(&checksum.value) {
        return Ok(());
    }
    let expected = checksum.value.clone();
    Err(StorageError::from(ImportError::Checksum { got, expected }).into())
}

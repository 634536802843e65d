//! Finite-field Diffie-Hellman for rustls, which has the negotiation but no group of its own (reference 12 §1,
//! `docs/decisions/0013-dhe.md`).
//!
//! A TLS 1.2 server sends its group's numbers, so any group will do; but rustls takes a client's list of named groups
//! (RFC 7919) for the only ones that it accepts. OpenSSL does not: its servers send their own group regardless. To do
//! the same, one group is registered under all names.

use std::sync::{Mutex, PoisonError};

use pve_sys::dh;
use rustls::crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};

use super::dh_params::{Parameters, ParametersError};

/// Names under which the server's own group is found: one that no client sends, for those that send none, and those of
/// RFC 7919.
const NAMES: [NamedGroup; 6] = [
    NamedGroup::Unknown(0x01ff),
    NamedGroup::FFDHE2048,
    NamedGroup::FFDHE3072,
    NamedGroup::FFDHE4096,
    NamedGroup::FFDHE6144,
    NamedGroup::FFDHE8192,
];

/// Groups as rustls takes them.
type Groups = Vec<&'static dyn SupportedKxGroup>;

/// A group, and how it is used.
#[derive(Debug)]
struct Dh {
    parameters: Parameters,
    exponent_length: usize,
}

/// A group under one of its names.
#[derive(Debug)]
struct Named {
    dh: &'static Dh,
    name: NamedGroup,
    version: ProtocolVersion,
}

/// The groups for rustls: the server's own for TLS 1.2, and a real one of RFC 7919 for clients of TLS 1.3 that have
/// nothing else. They must stand in this order, since rustls takes the first for clients that name none.
///
/// # Errors
/// The modulus is not prime.
pub(crate) fn groups(parameters: Parameters) -> Result<Vec<&'static dyn SupportedKxGroup>, ParametersError> {
    // rustls wants groups that live as long as the process: each is made once.
    static MADE: Mutex<Vec<(Parameters, Groups)>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, groups)) = made.iter().find(|(known, _)| *known == parameters) {
        return Ok(groups.clone());
    }
    let groups = make(parameters.clone())?;
    made.push((parameters, groups.clone()));
    Ok(groups)
}

fn make(parameters: Parameters) -> Result<Groups, ParametersError> {
    let named =
        |dh, name, version| -> &'static dyn SupportedKxGroup { Box::leak(Box::new(Named { dh, name, version })) };
    let exponent_length = parameters.exponent_length()?;
    let own: &'static Dh = Box::leak(Box::new(Dh {
        parameters,
        exponent_length,
    }));
    let standard = rustls::ffdhe_groups::FFDHE2048;
    let standard: &'static Dh = Box::leak(Box::new(Dh {
        parameters: Parameters {
            p: standard.p.to_vec(),
            g: standard.g.to_vec(),
        },
        // Its order is twice a prime (RFC 7919).
        exponent_length: 32,
    }));
    let mut groups: Groups = NAMES
        .iter()
        .map(|name| named(own, *name, ProtocolVersion::TLSv1_2))
        .collect();
    groups.push(named(standard, NamedGroup::FFDHE2048, ProtocolVersion::TLSv1_3));
    Ok(groups)
}

impl Named {
    fn group(&self) -> FfdheGroup<'static> {
        let Parameters { p, g } = &self.dh.parameters;
        FfdheGroup { p, g }
    }
}

impl SupportedKxGroup for Named {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = vec![0; self.dh.exponent_length];
        getrandom::fill(&mut secret).map_err(|_| Error::FailedToGetRandomBytes)?;
        let Parameters { p, g } = &self.dh.parameters;
        let public = dh::power(g, &secret, p).ok_or_else(no_power)?;
        Ok(Box::new(Exchange {
            dh: self.dh,
            group: self.group(),
            name: self.name,
            secret,
            public,
        }))
    }

    fn name(&self) -> NamedGroup {
        self.name
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        Some(self.group())
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == self.version
    }
}

fn no_power() -> Error {
    Error::General("Diffie-Hellman failed".to_owned())
}

/// A key exchange that waits for the client's key; its secret is used once.
struct Exchange {
    dh: &'static Dh,
    group: FfdheGroup<'static>,
    name: NamedGroup,
    secret: Vec<u8>,
    public: Vec<u8>,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // The compiler may not leave this out: the bytes are looked at afterwards.
        self.secret.fill(0);
        std::hint::black_box(&self.secret);
    }
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let parameters = &self.dh.parameters;
        if !parameters.contains(peer) {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        let shared = dh::power(peer, &self.secret, &parameters.p).ok_or_else(no_power)?;
        Ok(shared.into())
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        self.name
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        Some(self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_come_to_the_same_secret() {
        for group in groups(Parameters::built_in()).unwrap() {
            let (one, two) = (group.start().unwrap(), group.start().unwrap());
            let (first, second) = (one.pub_key().to_vec(), two.pub_key().to_vec());
            assert_eq!(first.len(), 256);
            assert_ne!(first, second);
            let (shared, other) = (one.complete(&second).unwrap(), two.complete(&first).unwrap());
            assert_eq!(shared.secret_bytes(), other.secret_bytes());
        }
    }

    #[test]
    fn keys_outside_the_group_are_refused() {
        let group = *groups(Parameters::built_in()).unwrap().first().unwrap();
        let mut largest = Parameters::built_in().p;
        for key in [vec![], vec![0], vec![1], largest.clone(), {
            *largest.last_mut().unwrap() -= 1;
            largest
        }] {
            let error = group.start().unwrap().complete(&key).err();
            assert_eq!(error, Some(PeerMisbehaved::InvalidKeyShare.into()), "{key:?}");
        }
    }
}

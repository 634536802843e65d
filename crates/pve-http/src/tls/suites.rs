//! The cipher suites that OpenSSL 3.0 knows for TLS 1.2 and before, and the words that name them.
//!
//! The table `suites.txt` is what `openssl ciphers -V -stdname 'ALL:COMPLEMENTOFALL'` prints, in the order in which any
//! word takes suites in, those without encryption among the others. The words are those of ciphers(1). Which of the
//! suites can be had is known in `provider`.

use std::sync::LazyLock;

/// The table; a comment line, then one suite per line.
static TABLE: &str = include_str!("suites.txt");

static ALL: LazyLock<Vec<Suite>> = LazyLock::new(|| TABLE.lines().filter_map(Suite::parse).collect());

/// Words of ciphers(1) for what no build of OpenSSL 3 has any more: they select nothing, and that is no mistake.
const OBSOLETE: [&str; 30] = [
    "MEDIUM",
    "LOW",
    "EXP",
    "EXPORT",
    "EXPORT40",
    "EXPORT56",
    "3DES",
    "DES",
    "RC4",
    "RC2",
    "IDEA",
    "SEED",
    "GOST",
    "GOST94",
    "GOST89",
    "GOST89MAC",
    "GOST12",
    "kGOST",
    "kGOST18",
    "aGOST",
    "aGOST01",
    "aGOST12",
    "kDH",
    "kDHr",
    "kDHd",
    "aDH",
    "kECDH",
    "kECDHr",
    "kECDHe",
    "SSLv2",
];

/// A cipher suite for TLS 1.2 or before.
#[derive(Debug, PartialEq, Eq)]
pub struct Suite {
    /// Its number on the wire.
    pub id: u16,
    /// OpenSSL's name.
    pub name: &'static str,
    /// IANA's name.
    pub iana: &'static str,
    /// The first version that has it, as OpenSSL counts.
    since: &'static str,
    key_exchange: &'static str,
    authentication: &'static str,
    cipher: &'static str,
    /// Length of the cipher's key; 0 without encryption.
    pub bits: u16,
    mac: &'static str,
    in_default: bool,
    in_fips: bool,
}

impl Suite {
    fn parse(line: &'static str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut next = || words.next();
        Some(Self {
            id: u16::from_str_radix(next()?.strip_prefix("0x")?, 16).ok()?,
            name: next()?,
            iana: next()?,
            since: next()?,
            key_exchange: next()?,
            authentication: next()?,
            cipher: next()?,
            bits: next()?.parse().ok()?,
            mac: next()?,
            in_default: next()? == "D",
            in_fips: next()? == "F",
        })
    }

    /// Whether keys are exchanged by Diffie-Hellman with parameters of the server's choice.
    pub fn is_dhe(&self) -> bool {
        self.key_exchange == "DH"
    }

    /// Whether the server shows a certificate with an RSA key.
    pub fn is_rsa(&self) -> bool {
        self.authentication == "RSA"
    }

    fn is_anonymous(&self) -> bool {
        self.authentication == "None"
    }

    fn is_null(&self) -> bool {
        self.cipher == "None"
    }

    /// Whether a word names it, alone or with others; `None` if nobody knows the word.
    pub fn matches(&self, word: &str) -> Option<bool> {
        let key_exchange = |name| self.key_exchange == name;
        let authentication = |name| self.authentication == name;
        let cipher = |name: &str, bits| self.cipher.starts_with(name) && (bits == 0 || self.bits == bits);
        Some(match word {
            "ALL" => !self.is_null(),
            "COMPLEMENTOFALL" | "eNULL" | "NULL" => self.is_null(),
            "HIGH" => !self.is_null(),
            "COMPLEMENTOFDEFAULT" => !self.in_default && !self.is_null(),
            "FIPS" => self.in_fips,
            "aNULL" => self.is_anonymous(),
            "kRSA" | "RSA" => key_exchange("RSA"),
            "aRSA" => self.is_rsa(),
            "kDHE" | "kEDH" | "DH" => key_exchange("DH"),
            "DHE" | "EDH" => key_exchange("DH") && !self.is_anonymous(),
            "ADH" => key_exchange("DH") && self.is_anonymous(),
            "kECDHE" | "kEECDH" | "ECDH" => key_exchange("ECDH"),
            "ECDHE" | "EECDH" => key_exchange("ECDH") && !self.is_anonymous(),
            "AECDH" => key_exchange("ECDH") && self.is_anonymous(),
            "aECDSA" | "ECDSA" => authentication("ECDSA"),
            "aDSS" | "DSS" => authentication("DSS"),
            "PSK" => self.key_exchange.ends_with("PSK"),
            "aPSK" => authentication("PSK"),
            "kPSK" => key_exchange("PSK"),
            "kECDHEPSK" => key_exchange("ECDHEPSK"),
            "kDHEPSK" => key_exchange("DHEPSK"),
            "kRSAPSK" => key_exchange("RSAPSK"),
            "SRP" | "kSRP" => key_exchange("SRP"),
            "aSRP" => authentication("SRP"),
            "TLSv1.2" => self.since == "TLSv1.2",
            "TLSv1" | "TLSv1.0" => self.since == "TLSv1",
            "SSLv3" => self.since == "SSLv3",
            "AES" => cipher("AES", 0),
            "AES128" => cipher("AES", 128),
            "AES256" => cipher("AES", 256),
            "AESGCM" => cipher("AESGCM", 0),
            "AESCCM" => cipher("AESCCM", 0),
            "AESCCM8" => cipher("AESCCM8", 0),
            "ARIA" | "ARIAGCM" => cipher("ARIA", 0),
            "ARIA128" => cipher("ARIA", 128),
            "ARIA256" => cipher("ARIA", 256),
            "CAMELLIA" => cipher("Camellia", 0),
            "CAMELLIA128" => cipher("Camellia", 128),
            "CAMELLIA256" => cipher("Camellia", 256),
            "CHACHA20" => cipher("CHACHA20", 0),
            "CBC" => self.cipher == "AES" || self.cipher == "Camellia",
            "MD5" => self.mac == "MD5",
            "SHA" | "SHA1" => self.mac == "SHA1",
            "SHA256" => self.mac == "SHA256",
            "SHA384" => self.mac == "SHA384",
            _ if OBSOLETE.contains(&word) => false,
            _ if find(word).is_some() => self.is_named(word),
            _ => return None,
        })
    }

    /// Whether a word is its name, in OpenSSL's spelling or IANA's.
    pub fn is_named(&self, word: &str) -> bool {
        self.name == word || self.iana == word
    }
}

/// All of them, in OpenSSL's order.
pub fn all() -> &'static [Suite] {
    &ALL
}

/// The suite of this name, in OpenSSL's spelling or IANA's.
pub fn find(name: &str) -> Option<&'static Suite> {
    all().iter().find(|suite| suite.is_named(name))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_suite() {
        assert_eq!(all().len(), TABLE.lines().count() - 1);
    }

    #[test]
    fn the_table_is_openssls() {
        let output = Command::new("openssl")
            .args(["ciphers", "-V", "-stdname", "ALL:COMPLEMENTOFALL"])
            .output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let printed: Vec<_> = text.lines().filter(|line| !line.contains("TLSv1.3")).collect();
        assert_eq!(printed.len(), all().len());
        for suite in all() {
            let [high, low] = suite.id.to_be_bytes();
            let id = format!("0x{high:02X},0x{low:02X} ");
            let line = printed.iter().find(|line| line.contains(&id)).unwrap();
            for part in [
                &format!("0x{high:02X},0x{low:02X} "),
                suite.name,
                suite.iana,
                suite.since,
            ] {
                assert!(line.contains(part), "{part} in {line}");
            }
        }
    }
}

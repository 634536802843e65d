//! Whether an answer to a challenge is right, and what happens when it is not (reference 02 §8.2 to §8.5).
//!
//! ```text
//! locked out? ── yes ─▶ refused, not counted
//!      │ no
//!      ▼
//! counted as wrong, in case that cannot be written down; then looked at
//!      ▼
//! right ─▶ counters to 0, the code's step or the key's use is written down ─▶ in
//! wrong ─▶ counters + 1 ─▶ 8 wrong codes: no more codes; 100 wrong answers: nothing for an hour
//! ```
//!
//! All of it happens under the lock of `tfa.cfg`, so that a code or key is good for one log-in only; but the server that
//! knows Yubico keys is asked before, since nobody may hold that lock for as long as it may take.

use pve_schema::Context;
use pve_schema::ids::UserId;

use super::attempts::{self, Attempts, Record};
use super::challenge::{Challenge, Required, factors_of};
use super::config::Factors;
use super::totp::Totp;
use super::webauthn::{Assertion, KeyError, RelyingParty};
use super::yubico::{Otp, Service, YubicoError};
use crate::domains::Realm;
use crate::error::AccessError;
use crate::user_config::User;

/// Wrong codes in a row after which no code is looked at: a million codes of which three are right leave one chance in
/// 40,000.
const MAX_TOTP_FAILURES: u32 = 8;
/// Wrong answers in a row after which nothing is looked at for [`LOCKOUT`].
const MAX_FAILURES: u32 = 100;
/// Seconds.
const LOCKOUT: i64 = 3600;

/// An answer as a client sends it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer<'a> {
    Totp(&'a str),
    Recovery(&'a str),
    Webauthn(&'a str),
    Yubico(&'a str),
    /// A kind that cannot be verified.
    U2f,
}

/// What is known of an answer before the user's factors are locked.
enum Proof<'a> {
    Totp(&'a str),
    Recovery(&'a str),
    /// What a security key said, and to whom.
    Webauthn(&'a str, Option<RelyingParty>),
    /// The id of the Yubico key whose password is good, or why it is not.
    Yubico(Result<String, YubicoError>),
    U2f,
}

impl Proof<'_> {
    /// Counts it as a wrong one.
    fn count(&self, record: &mut Record) {
        record.tfa_failures = record.tfa_failures.saturating_add(1);
        if matches!(self, Self::Totp(_)) {
            record.totp_failures = record.totp_failures.saturating_add(1);
        }
    }
}

impl<'a> Answer<'a> {
    fn parse(text: &'a str, required: Option<Required>) -> Result<Self, AccessError> {
        let parts = text.split_once(':');
        if let Some(required) = required {
            let name = required.name();
            match parts {
                None => return Err(AccessError::plain("bad otp response")),
                Some((kind, _)) if kind != name && kind != "recovery" => {
                    return Err(AccessError::plain(format!("realm requires {name} authentication")));
                }
                Some(_) => {}
            }
        }
        match parts {
            Some(("totp", code)) => Ok(Self::Totp(code)),
            Some(("recovery", key)) => Ok(Self::Recovery(key)),
            Some(("webauthn", answer)) => Ok(Self::Webauthn(answer)),
            Some(("yubico", otp)) => Ok(Self::Yubico(otp)),
            Some(("u2f", _)) => Ok(Self::U2f),
            _ => Err(AccessError::plain("invalid tfa response")),
        }
    }
}

/// Whoever answers.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its id.
    pub id: &'a UserId,
    /// Its record.
    pub user: &'a User,
    /// Its realm.
    pub realm: &'a Realm,
}

/// Checks an answer to a challenge. One that was right is never right again. `host` is where the request was sent to.
///
/// # Errors
/// The reason, which is for the log alone.
pub fn verify(
    context: &Context,
    subject: Subject<'_>,
    challenge: &Challenge,
    answer: &str,
    host: Option<&str>,
) -> Result<(), AccessError> {
    let proof = match Answer::parse(answer, Required::of(subject.realm)?)? {
        Answer::Totp(code) => Proof::Totp(code),
        Answer::Recovery(key) => Proof::Recovery(key),
        Answer::Webauthn(answer) => Proof::Webauthn(answer, RelyingParty::of(context, host)?),
        Answer::Yubico(otp) => Proof::Yubico(ask_server(context, subject, otp)?),
        Answer::U2f => Proof::U2f,
    };
    let now = context.now();
    // What a wrong answer leads to is written down as well: the refusal is a result, not a failure.
    super::edit(context, |config| {
        let Some(mut factors) = factors_of(config, subject.id, subject.user, subject.realm) else {
            return Ok(Err(AccessError::plain("no such factor")));
        };
        let mut attempts = Attempts::open(context, subject.id)?;
        // Counted as wrong before it is looked at: where no count can be kept, nobody may guess.
        let before = attempts.record.clone();
        proof.count(&mut attempts.record);
        attempts.save()?;
        attempts.record = before;
        let outcome = attempt(&mut factors, &mut attempts.record, challenge, proof, now);
        match attempts.save() {
            Err(error) if outcome.is_ok() => return Err(error),
            // It is counted already.
            Err(error) => log::warn!("{error}"),
            Ok(()) => {}
        }
        if outcome.is_ok() || config.users.contains_key(subject.id) || factors.locks() != super::Locks::default() {
            config.users.insert(subject.id.clone(), factors);
        }
        Ok(outcome)
    })?
}

/// Asks the realm's server about a password of one of the user's keys; not about others, nor while no factor is looked
/// at.
fn ask_server(context: &Context, subject: Subject<'_>, otp: &str) -> Result<Result<String, YubicoError>, AccessError> {
    let Subject { id, user, realm } = subject;
    let factors = factors_of(&super::load(context)?, id, user, realm).unwrap_or_default();
    check_unlocked(&factors, context.now())?;
    let service = Service::of(context, id.realm(), realm)?;
    let check = |otp: &str| {
        let otp = Otp::parse(otp)?;
        if !has_yubico_key(&factors, otp.key_id()) {
            return Err(YubicoError::ForeignKey);
        }
        service.check(&otp)?;
        Ok(otp.key_id().to_owned())
    };
    Ok(check(otp))
}

fn has_yubico_key(factors: &Factors, id: &str) -> bool {
    factors.yubico.iter().any(|entry| entry.enable && entry.entry == id)
}

fn check_unlocked(factors: &Factors, now: i64) -> Result<(), AccessError> {
    if factors.tfa_locked_until.is_some_and(|until| now < until) {
        return Err(AccessError::plain("2nd factors are locked"));
    }
    Ok(())
}

/// What an answer means for a user's factors and counters.
fn attempt(
    factors: &mut Factors,
    record: &mut Record,
    challenge: &Challenge,
    proof: Proof<'_>,
    now: i64,
) -> Result<(), AccessError> {
    check_unlocked(factors, now)?;
    match proof {
        Proof::Totp(_) if factors.totp_locked => Err(AccessError::plain("TOTP is locked")),
        Proof::Totp(code) => match use_code(factors, challenge, code, now) {
            Ok(()) => {
                record.totp_failures = 0;
                record.tfa_failures = 0;
                Ok(())
            }
            Err(reason) => {
                record.totp_failures = record.totp_failures.saturating_add(1);
                if record.totp_failures < MAX_TOTP_FAILURES {
                    return Err(failure(factors, record, reason, now));
                }
                factors.totp_locked = true;
                let reason = "failed 2nd factor: TOTP limit reached, locked";
                Err(failure(factors, record, reason, now))
            }
        },
        Proof::Recovery(key) => {
            let asked = challenge.recovery.is_some();
            if asked && factors.recovery.as_mut().is_some_and(|recovery| recovery.consume(key)) {
                record.totp_failures = 0;
                record.tfa_failures = 0;
                factors.totp_locked = false;
                factors.tfa_locked_until = None;
                return Ok(());
            }
            Err(failure(factors, record, "failed to verify recovery key", now))
        }
        // The question, too, waits until there are settings again.
        Proof::Webauthn(_, None) => Err(KeyError::Unconfigured.into()),
        Proof::Webauthn(answer, Some(party)) => match use_key(factors, record, challenge, answer, &party) {
            Ok(()) => {
                record.tfa_failures = 0;
                Ok(())
            }
            Err(error) => Err(failure(factors, record, &error.to_string(), now)),
        },
        Proof::Yubico(Ok(id)) if challenge.yubico && has_yubico_key(factors, &id) => {
            record.tfa_failures = 0;
            Ok(())
        }
        Proof::Yubico(Ok(_)) => Err(failure(factors, record, "no yubico challenge", now)),
        Proof::Yubico(Err(error)) if error.is_the_users_fault() => {
            Err(failure(factors, record, &error.to_string(), now))
        }
        Proof::Yubico(Err(error)) => Err(error.into()),
        Proof::U2f => Err(AccessError::plain("u2f answers cannot be verified")),
    }
}

/// Counts a wrong answer; the reason for the log.
fn failure(factors: &mut Factors, record: &mut Record, reason: &str, now: i64) -> AccessError {
    record.tfa_failures = record.tfa_failures.saturating_add(1);
    if record.tfa_failures < MAX_FAILURES {
        return AccessError::plain(reason);
    }
    factors.tfa_locked_until = Some(now.saturating_add(LOCKOUT));
    AccessError::plain("failed 1nd factor: TFA limit reached, user locked out")
}

/// Accepts what one of the user's security keys said to the question that the half ticket holds; once, right or wrong.
fn use_key(
    factors: &mut Factors,
    record: &mut Record,
    challenge: &Challenge,
    answer: &str,
    party: &RelyingParty,
) -> Result<(), KeyError> {
    let answer = Assertion::parse(answer)?;
    if !challenge.asked_keys(&answer.challenge) {
        return Err(KeyError::NoChallenge);
    }
    let pending = attempts::take(&mut record.webauthn_auths, &answer.challenge).ok_or(KeyError::NoChallenge)?;
    party.authenticate(&mut factors.webauthn, &pending, &answer)
}

/// Accepts a code that is newer than the last one of its device, and remembers it.
fn use_code(factors: &mut Factors, challenge: &Challenge, code: &str, now: i64) -> Result<(), &'static str> {
    if !challenge.totp {
        return Err("no totp challenge");
    }
    let mut reason = "failed to verify TOTP value";
    for entry in factors.totp.iter_mut().filter(|entry| entry.enable) {
        let totp = match Totp::parse(&entry.entry.uri) {
            Ok(totp) => totp,
            Err(error) => {
                log::warn!("tfa entry '{}': {error}", entry.id);
                continue;
            }
        };
        match totp.matching_step(code, now) {
            Some(step) if entry.entry.last_count.is_none_or(|last| step > last) => {
                entry.entry.last_count = Some(step);
                return Ok(());
            }
            Some(_) => reason = "rejecting reused TOTP value",
            None => {}
        }
    }
    Err(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tfa::TfaConfig;
    use crate::tfa::recovery;

    const NOW: i64 = 59;
    /// The code of [`NOW`] (RFC 6238).
    const CODE: &str = "287082";
    const WRONG: &str = "000000";

    struct Lab {
        factors: Factors,
        record: Record,
        keys: Vec<String>,
        now: i64,
    }

    impl Lab {
        fn new() -> Self {
            let entry = |id: &str, enable: bool| {
                let uri = "otpauth://totp/a?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
                format!("{{\"id\":\"{id}\",\"created\":1,\"enable\":{enable},\"entry\":\"{uri}\"}}")
            };
            let text = format!("{{\"users\":{{\"a@pve\":{{\"totp\":[{}]}}}}}}", entry("1", true));
            let mut config = TfaConfig::parse(&text, NOW).unwrap();
            let mut factors = config.users.remove(&"a@pve".parse().unwrap()).unwrap();
            let (keys, recovery) = recovery::generate(NOW).unwrap();
            factors.recovery = Some(recovery);
            Self {
                factors,
                record: Record::default(),
                keys,
                now: NOW,
            }
        }

        /// `ok` or the reason.
        fn answer(&mut self, answer: &str) -> String {
            let challenge = Challenge {
                totp: true,
                recovery: Some(vec![]),
                ..Challenge::default()
            };
            let proof = match Answer::parse(answer, None).unwrap() {
                Answer::Totp(code) => Proof::Totp(code),
                Answer::Recovery(key) => Proof::Recovery(key),
                _ => panic!("{answer}"),
            };
            match attempt(&mut self.factors, &mut self.record, &challenge, proof, self.now) {
                Ok(()) => "ok".to_owned(),
                Err(error) => error.to_string(),
            }
        }

        fn counters(&self) -> (u32, u32) {
            (self.record.totp_failures, self.record.tfa_failures)
        }
    }

    #[test]
    fn a_code_is_good_once() {
        let mut lab = Lab::new();
        assert_eq!(lab.answer(&format!("totp:{WRONG}")), "failed to verify TOTP value");
        assert_eq!(
            (lab.answer(&format!("totp:{CODE}")).as_str(), lab.counters()),
            ("ok", (0, 0))
        );
        assert_eq!(lab.factors.totp[0].entry.last_count, Some(1));
        assert_eq!(lab.answer(&format!("totp:{CODE}")), "rejecting reused TOTP value");
        assert_eq!(lab.counters(), (1, 1), "using it again is a failure");
        lab.factors.totp[0].entry.last_count = Some(2);
        assert_eq!(
            lab.answer(&format!("totp:{CODE}")),
            "rejecting reused TOTP value",
            "an older one as well"
        );
        lab.factors.totp[0].enable = false;
        assert_eq!(lab.answer(&format!("totp:{CODE}")), "failed to verify TOTP value");
    }

    /// Reference 02 §8.5.
    #[test]
    fn eight_wrong_codes_lock_codes_until_a_recovery_key() {
        let mut lab = Lab::new();
        for failures in 1..8 {
            assert_eq!(lab.answer(&format!("totp:{WRONG}")), "failed to verify TOTP value");
            assert_eq!(lab.counters(), (failures, failures));
        }
        assert_eq!(lab.answer("totp:"), "failed 2nd factor: TOTP limit reached, locked");
        assert!(lab.factors.totp_locked);
        assert_eq!(lab.answer(&format!("totp:{CODE}")), "TOTP is locked");
        assert_eq!(lab.counters(), (8, 8), "not counted");
        let key = format!("recovery:{}", lab.keys[0]);
        assert_eq!((lab.answer(&key).as_str(), lab.counters()), ("ok", (0, 0)));
        assert!(!lab.factors.totp_locked);
        assert_eq!(lab.answer(&key), "failed to verify recovery key", "it is used up");
        assert_eq!(lab.counters(), (0, 1));
        assert_eq!(lab.answer(&format!("totp:{CODE}")), "ok");
    }

    #[test]
    fn a_hundred_wrong_answers_lock_everything_for_an_hour() {
        let mut lab = Lab::new();
        for _ in 0..99 {
            assert_eq!(lab.answer("recovery:x"), "failed to verify recovery key");
        }
        let text = "failed 1nd factor: TFA limit reached, user locked out";
        assert_eq!(lab.answer("recovery:x"), text);
        assert_eq!(lab.factors.tfa_locked_until, Some(NOW + 3600));
        let key = format!("recovery:{}", lab.keys[0]);
        lab.now = NOW + 3599;
        assert_eq!(lab.answer(&key), "2nd factors are locked", "recovery keys too");
        assert_eq!(lab.counters(), (0, 100), "not counted");
        lab.now = NOW + 3600;
        assert_eq!((lab.answer(&key).as_str(), lab.counters()), ("ok", (0, 0)));
    }

    /// Reference 02 §8.1, §8.2.
    #[test]
    fn answers_have_a_kind_that_the_realm_accepts() {
        let parse = |text: &str, required| match Answer::parse(text, required) {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        for (text, required, expected) in [
            ("totp:1", None, "ok"),
            ("recovery:1", None, "ok"),
            ("123456", None, "invalid tfa response"),
            ("magic:1", None, "invalid tfa response"),
            ("totp:1", Some(Required::Totp), "ok"),
            ("recovery:1", Some(Required::Totp), "ok"),
            ("yubico:1", Some(Required::Totp), "realm requires totp authentication"),
            ("totp:1", Some(Required::Yubico), "realm requires yubico authentication"),
            ("123456", Some(Required::Totp), "bad otp response"),
        ] {
            assert_eq!(parse(text, required), expected, "{text}");
        }
    }
}

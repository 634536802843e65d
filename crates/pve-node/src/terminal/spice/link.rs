//! How a channel begins: the client says which it is, gets the server's key, and sends the password under it (SPICE
//! protocol, "link stage"). Bytes in, steps out; who speaks to whom is not known here.
//!
//! ```text
//!  client                                             server
//!    │ REDQ 2 2 size │ session, channel, abilities ─────▶│  Hello
//!    │◀───── REDQ 2 2 size │ error, RSA key, abilities   │
//!    │ (which kind of log-in) │ password under the key ─▶│  Sealed
//!    │◀──────────────────────────────── result, 4 bytes  │
//! ```

use super::input::Input;
use super::key::{PUBLIC, SEALED};

/// Begins the link messages of both sides.
const MAGIC: &[u8; 4] = b"REDQ";
/// The protocol's version: the first number must agree.
const MAJOR: u32 = 2;
const MINOR: u32 = 2;
/// Magic, version, and the size of what follows.
const HEAD: usize = 16;
/// Bytes of a client's message without its abilities.
const MESSAGE: usize = 18;
/// Most bytes of a client's message: some thousands of abilities, where there are a few dozen.
const MAX_MESSAGE: usize = 4096;
/// Bytes of the server's message without its abilities.
const REPLY: u32 = 4 + PUBLIC as u32 + 12;

/// Common abilities, as bits: the client says which log-in it wants, the only one of which is the password; messages
/// with short heads.
const AUTH_SELECTION: u32 = 1;
const AUTH_SPICE: u32 = 1 << 1;
const MINI_HEADER: u32 = 1 << 3;
/// The number by which a client chooses a log-in by password.
const BY_PASSWORD: u32 = 1;

/// Why a channel is refused, as the protocol numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not SPICE.
    #[error("the client does not speak SPICE")]
    Magic = 2,
    /// A message that makes no sense, or a client that is too old.
    #[error("the client does not speak SPICE as it should")]
    Data = 3,
    /// Another version of the protocol.
    #[error("the client speaks another version of SPICE")]
    Version = 4,
    /// A wrong password, or one that is not good any more.
    #[error("authentication request failed")]
    Password = 7,
    /// It names another session.
    #[error("the client asks for a session that is not there")]
    Session = 8,
    /// There is no such channel, or somebody has it.
    #[error("the client asks for a channel that is not there")]
    Channel = 9,
}

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The session to which the channel is to belong; 0 for a new one.
    pub session: u32,
    /// Which kind of channel.
    pub kind: u8,
    /// Which of that kind.
    pub number: u8,
    /// It says which log-in it wants.
    chooses: bool,
}

/// Something that a client said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Who it is; it waits for [`reply`].
    Hello(Hello),
    /// Its password, encrypted; it waits for [`result`]. Nothing comes after this.
    Sealed(Box<[u8; SEALED]>),
}

/// Reads what a client says before it is let in.
#[derive(Debug, Default)]
pub struct Link {
    waiting: Vec<u8>,
    hello: Option<Hello>,
}

impl Link {
    /// Takes bytes as they come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next thing that is complete.
    ///
    /// # Errors
    /// [`Refusal`]: nothing after it can be understood.
    pub fn step(&mut self) -> Result<Option<Step>, Refusal> {
        let mut input = Input::new(&self.waiting);
        let step = match self.hello {
            None => hello(&mut input)?.map(Step::Hello),
            Some(hello) => sealed(&mut input, hello.chooses)?.map(Step::Sealed),
        };
        if let Some(step) = &step {
            let taken = self.waiting.len() - input.left();
            self.waiting.drain(..taken);
            if let Step::Hello(hello) = step {
                self.hello = Some(*hello);
            }
        }
        Ok(step)
    }

    /// What came after the link stage already.
    pub fn rest(self) -> Vec<u8> {
        self.waiting
    }
}

fn hello(input: &mut Input<'_>) -> Result<Option<Hello>, Refusal> {
    if !MAGIC.iter().zip(input.peek()).all(|(one, other)| one == other) {
        return Err(Refusal::Magic);
    }
    let Some(head) = input.array::<HEAD>() else {
        return Ok(None);
    };
    let mut head = Input::new(head.get(MAGIC.len()..).unwrap_or_default());
    let (Some(major), Some(_), Some(size)) = (head.u32(), head.u32(), head.u32()) else {
        return Ok(None);
    };
    if major != MAJOR {
        return Err(Refusal::Version);
    }
    let size = usize::try_from(size).map_err(|_| Refusal::Data)?;
    if !(MESSAGE..=MAX_MESSAGE).contains(&size) {
        return Err(Refusal::Data);
    }
    let Some(message) = input.take(size) else {
        return Ok(None);
    };
    parse(message).ok_or(Refusal::Data).map(Some)
}

/// Reads a whole message; `None` if it makes no sense.
fn parse(message: &[u8]) -> Option<Hello> {
    let mut input = Input::new(message);
    let session = input.u32()?;
    let [kind, number] = *input.array()?;
    let (common, own) = (words(input.u32()?)?, words(input.u32()?)?);
    let mut abilities = Input::new(message.get(usize::try_from(input.u32()?).ok()?..)?);
    let common = abilities.take(common)?;
    abilities.take(own)?;
    let first = Input::new(common).u32().unwrap_or(0);
    // Clients know short heads since 2011.
    (first & MINI_HEADER != 0).then_some(Hello {
        session,
        kind,
        number,
        chooses: first & AUTH_SELECTION != 0,
    })
}

/// Bytes of that many words, if they can be in a message.
fn words(count: u32) -> Option<usize> {
    usize::try_from(count).ok()?.checked_mul(4)
}

fn sealed(input: &mut Input<'_>, chooses: bool) -> Result<Option<Box<[u8; SEALED]>>, Refusal> {
    if chooses {
        match input.u32() {
            Some(BY_PASSWORD) => {}
            Some(_) => return Err(Refusal::Data),
            None => return Ok(None),
        }
    }
    Ok(input.array().copied().map(Box::new))
}

/// What a client is told after its hello: the key for its password, or why it is refused.
pub fn reply(verdict: Result<&[u8; PUBLIC], Refusal>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let mut put = |number: u32| out.extend(number.to_le_bytes());
    put(MAJOR);
    put(MINOR);
    put(REPLY + 4);
    put(verdict.err().map_or(0, |refusal| refusal as u32));
    out.extend(verdict.unwrap_or(&[0; PUBLIC]));
    // One word of common abilities, none of the channel's own, and where they are.
    for number in [1, 0, REPLY, AUTH_SELECTION | AUTH_SPICE | MINI_HEADER] {
        out.extend(number.to_le_bytes());
    }
    out
}

/// What a client is told after its password.
pub fn result(verdict: Result<(), Refusal>) -> [u8; 4] {
    verdict.err().map_or(0, |refusal| refusal as u32).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client says first, with its abilities.
    fn message(session: u32, kind: u8, common: &[u32]) -> Vec<u8> {
        let mut out = b"REDQ".to_vec();
        let size = 18 + common.len() as u32 * 4;
        for number in [2, 2, size, session] {
            out.extend(u32::to_le_bytes(number));
        }
        out.extend([kind, 0]);
        for number in [common.len() as u32, 0, 18] {
            out.extend(number.to_le_bytes());
        }
        common.iter().for_each(|word| out.extend(word.to_le_bytes()));
        out
    }

    #[test]
    fn a_client_says_who_it_is_and_then_its_password() {
        for (abilities, chosen) in [(0b1111, &[1, 0, 0, 0][..]), (0b1000, &[])] {
            let mut stream = message(7, 2, &[abilities]);
            stream.extend(chosen);
            stream.extend([9; SEALED]);
            stream.extend(b"rest");
            let mut link = Link::default();
            let mut steps = Vec::new();
            for byte in stream {
                link.feed(&[byte]);
                if steps.len() < 2 {
                    steps.extend(link.step().unwrap());
                }
            }
            let hello = Hello {
                session: 7,
                kind: 2,
                number: 0,
                chooses: !chosen.is_empty(),
            };
            assert_eq!(steps, [Step::Hello(hello), Step::Sealed(Box::new([9; SEALED]))]);
            assert_eq!(link.rest(), b"rest");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let good = message(0, 1, &[0b1011]);
        let change = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let mut sasl = good.clone();
        sasl.extend([2, 0, 0, 0]);
        for (bytes, refusal) in [
            (b"GET / HTTP/1.1".to_vec(), Refusal::Magic),
            (b"RFB".to_vec(), Refusal::Magic),
            (change(4, 1), Refusal::Version),
            // Sizes that are too small and too large.
            (change(12, 17), Refusal::Data),
            (change(14, 1), Refusal::Data),
            // More abilities than there is room for, and a place beyond the end.
            (change(22, 2), Refusal::Data),
            (change(25, 0xff), Refusal::Data),
            (change(26, 1), Refusal::Data),
            (change(30, 19), Refusal::Data),
            (change(33, 0xff), Refusal::Data),
            (message(0, 1, &[0b0011]), Refusal::Data),
            (message(0, 1, &[]), Refusal::Data),
            (sasl, Refusal::Data),
        ] {
            let mut link = Link::default();
            link.feed(&bytes);
            let mut said = link.step();
            if let Ok(Some(_)) = said {
                said = link.step();
            }
            assert_eq!(said, Err(refusal), "{bytes:?}");
        }
    }

    #[test]
    fn replies_have_the_key_or_the_reason() {
        let told = reply(Ok(&[5; PUBLIC]));
        assert_eq!(told.len(), 16 + 178 + 4);
        assert_eq!(&told[..20], b"REDQ\x02\0\0\0\x02\0\0\0\xb6\0\0\0\0\0\0\0");
        assert_eq!(told[20..182], [5; PUBLIC]);
        assert_eq!(&told[182..], b"\x01\0\0\0\0\0\0\0\xb2\0\0\0\x0b\0\0\0");
        assert_eq!(reply(Err(Refusal::Channel))[16], 9);
        assert_eq!(result(Err(Refusal::Password)), [7, 0, 0, 0]);
        assert_eq!(result(Ok(())), [0; 4]);
    }
}

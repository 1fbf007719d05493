//! SCRAM (RFC 5802) with SHA-256 (RFC 7677) and SHA-512: shows that both sides know a password, and never sends it.
//!
//! Without channel binding, which Kafka does not have. The broker has to prove itself too: one that does not know the
//! password is found out by its signature.
//!
//! RFC 5802 asks for passwords prepared by SASLprep (RFC 4013). For ASCII that changes nothing. Other passwords go as the
//! UTF-8 that was typed, since that is what Kafka's brokers, tools and Java client do with them.

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

use crate::secret::Secret;

/// Kafka takes no credentials with fewer iterations, and RFC 7677 asks for as many: a broker that wants fewer wants the
/// password guessed.
pub const ITERATIONS_MIN: u32 = 4_096;
/// A second of work, at most two; a broker that wants more would keep the agent busy.
pub const ITERATIONS_MAX: u32 = 1_000_000;
/// Salts have 16 to 64 bytes, nonces about 30; a longer message is not looked at.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// 144 bits, as base64.
const NONCE_BYTES: usize = 18;

/// `n`: no channel binding; no other identity.
const GS2_HEADER: &str = "n,,";

/// The hash function that all is built on.
#[derive(Clone, Copy)]
pub struct Hash {
    digest: &'static digest::Algorithm,
    hmac: hmac::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
}

impl Hash {
    /// SHA-256.
    pub fn sha256() -> Self {
        Hash { digest: &digest::SHA256, hmac: hmac::HMAC_SHA256, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256 }
    }

    /// SHA-512.
    pub fn sha512() -> Self {
        Hash { digest: &digest::SHA512, hmac: hmac::HMAC_SHA512, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512 }
    }

    fn mac(self, key: &[u8], message: &str) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(self.hmac, key), message.as_bytes())
    }
}

/// A nonce that was never used before.
///
/// # Errors
/// When the system has no random bytes.
pub fn nonce() -> Result<String, String> {
    let mut bytes = [0; NONCE_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system has no random bytes for a nonce: {error}"))?;
    Ok(BASE64.encode(bytes))
}

/// One exchange, from the client's side.
pub struct Exchange<'a> {
    hash: Hash,
    password: &'a Secret,
    nonce: String,
    /// The client's first message without the GS2 header.
    first_bare: String,
}

/// That the client knows the password, and what the broker has to answer to show that it does, too.
pub struct Proof {
    /// The client's final message.
    pub message: String,
    server_key: hmac::Key,
    auth_message: String,
}

impl<'a> Exchange<'a> {
    /// Begins one. `nonce` must be new.
    pub fn new(hash: Hash, username: &str, password: &'a Secret, nonce: String) -> Self {
        // A saslname (RFC 5802, section 5.1).
        let username = username.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={username},r={nonce}");
        Exchange { hash, password, nonce, first_bare }
    }

    /// The client's first message.
    pub fn first(&self) -> String {
        format!("{GS2_HEADER}{}", self.first_bare)
    }

    /// The client's final message, after the broker's first one.
    ///
    /// # Errors
    /// What is wrong with the broker's.
    pub fn prove(&self, server_first: &[u8]) -> Result<Proof, String> {
        let server_first = text(server_first)?;
        let Challenge { nonce, salt, iterations } = Challenge::read(server_first)?;
        // Whoever sends another's answer does not know our nonce.
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("its nonce does not continue ours".to_owned());
        }
        let mut salted = vec![0; self.hash.digest.output_len()];
        pbkdf2::derive(self.hash.pbkdf2, iterations, &salt, self.password.expose().as_bytes(), &mut salted);

        let without_proof = format!("c={},r={nonce}", BASE64.encode(GS2_HEADER));
        let auth_message = format!("{},{server_first},{without_proof}", self.first_bare);
        let client_key = self.hash.mac(&salted, "Client Key");
        let stored_key = digest::digest(self.hash.digest, client_key.as_ref());
        let client_signature = self.hash.mac(stored_key.as_ref(), &auth_message);
        let proof: Vec<u8> = client_key.as_ref().iter().zip(client_signature.as_ref()).map(|(k, s)| k ^ s).collect();
        let server_key = self.hash.mac(&salted, "Server Key");
        Ok(Proof {
            message: format!("{without_proof},p={}", BASE64.encode(proof)),
            server_key: hmac::Key::new(self.hash.hmac, server_key.as_ref()),
            auth_message,
        })
    }
}

impl Proof {
    /// Whether the broker knows the password, by its final message.
    ///
    /// # Errors
    /// What it says instead.
    pub fn verify(&self, server_final: &[u8]) -> Result<(), String> {
        let server_final = text(server_final)?;
        let mut attributes = server_final.split(',');
        match attributes.next().and_then(|first| first.split_once('=')) {
            Some(("v", signature)) => {
                let theirs = BASE64.decode(signature).map_err(|_| "its signature is no base64".to_owned())?;
                hmac::verify(&self.server_key, self.auth_message.as_bytes(), &theirs)
                    .map_err(|_| "its signature is wrong: it does not know the password".to_owned())
            }
            Some(("e", error)) => Err(format!("it answers `{error}`")),
            _ => Err("its final message has no signature".to_owned()),
        }
    }
}

/// The broker's first message.
struct Challenge<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl<'a> Challenge<'a> {
    /// `r=…,s=…,i=…`, in this order; what comes behind are extensions, which are optional.
    fn read(message: &'a str) -> Result<Self, String> {
        let mut attributes = message.split(',');
        let mut next = |name: char| {
            let value = attributes.next().and_then(|attribute| attribute.strip_prefix(name)?.strip_prefix('='));
            value.ok_or_else(|| format!("its first message has no `{name}=` where it belongs"))
        };
        let (nonce, salt, iterations) = (next('r')?, next('s')?, next('i')?);
        let salt = BASE64.decode(salt).map_err(|_| "its salt is no base64".to_owned())?;
        if salt.is_empty() {
            return Err("its salt is empty".to_owned());
        }
        let iterations = iterations
            .parse()
            .ok()
            .filter(|iterations: &NonZeroU32| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations.get()))
            .ok_or_else(|| {
                let wants = iterations.chars().take(20).collect::<String>();
                format!("it wants {wants} iterations, not {ITERATIONS_MIN} to {ITERATIONS_MAX}")
            })?;
        Ok(Challenge { nonce, salt, iterations })
    }
}

fn text(message: &[u8]) -> Result<&str, String> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(format!("a SCRAM message of {} bytes, of at most {MESSAGE_BYTES_MAX}", message.len()));
    }
    std::str::from_utf8(message).map_err(|_| "a SCRAM message that is no UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it is from, the hash, then the nonce and the messages after the first.
    type Published = (&'static str, fn() -> Hash, [&'static str; 4]);

    /// The exchanges that RFC 5802 (section 5) and RFC 7677 (section 3) print. No RFC prints one for SHA-512: that one was
    /// computed with Python's hashlib and hmac from the values of RFC 7677.
    const PUBLISHED: [Published; 3] = [
        (
            "RFC 5802",
            || Hash {
                digest: &digest::SHA1_FOR_LEGACY_USE_ONLY,
                hmac: hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                pbkdf2: pbkdf2::PBKDF2_HMAC_SHA1,
            },
            [
                "fyko+d2lbbFgONRv9qkxdawL",
                "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
                "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ],
        ),
        (
            "RFC 7677",
            Hash::sha256,
            [
                "rOprNGfwEbeRWgbNEkqO",
                "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ],
        ),
        (
            "SHA-512",
            Hash::sha512,
            [
                "rOprNGfwEbeRWgbNEkqO",
                "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==",
                "v=ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==",
            ],
        ),
    ];

    #[test]
    fn the_published_exchanges_come_out() {
        for (name, hash, [nonce, server_first, client_final, server_final]) in PUBLISHED {
            let password = Secret::new("pencil");
            let exchange = Exchange::new(hash(), "user", &password, nonce.to_owned());
            assert_eq!(exchange.first(), format!("n,,n=user,r={nonce}"), "{name}");
            let proof = exchange.prove(server_first.as_bytes()).unwrap();
            assert_eq!(proof.message, client_final, "{name}");
            assert_eq!(proof.verify(server_final.as_bytes()), Ok(()), "{name}");
        }
    }

    #[test]
    fn usernames_are_escaped() {
        let password = Secret::new("x");
        for (username, escaped) in [("a,b=c", "a=2Cb=3Dc"), ("=2C", "=3D2C"), ("ünï", "ünï")] {
            let exchange = Exchange::new(Hash::sha256(), username, &password, "N".to_owned());
            assert_eq!(exchange.first(), format!("n,,n={escaped},r=N"));
        }
    }

    #[test]
    fn a_challenge_that_is_none_is_refused() {
        let password = Secret::new("pencil");
        let exchange = Exchange::new(Hash::sha256(), "user", &password, "mine".to_owned());
        let long = format!("r=mine+,s=QQ==,i=4096,x={}", "x".repeat(MESSAGE_BYTES_MAX));
        for (challenge, why) in [
            (&b"r=mine,s=QQ==,i=4096"[..], "its nonce does not continue ours"),
            (b"r=other,s=QQ==,i=4096", "its nonce does not continue ours"),
            (b"r=mine+,s=!,i=4096", "its salt is no base64"),
            (b"r=mine+,s=,i=4096", "its salt is empty"),
            (b"r=mine+,s=QQ==,i=4095", "it wants 4095 iterations, not 4096 to 1000000"),
            (b"r=mine+,s=QQ==,i=1000001", "it wants 1000001 iterations, not 4096 to 1000000"),
            (b"r=mine+,s=QQ==,i=0", "it wants 0 iterations, not 4096 to 1000000"),
            (b"r=mine+,s=QQ==,i=many", "it wants many iterations, not 4096 to 1000000"),
            (b"r=mine+,s=QQ==", "its first message has no `i=` where it belongs"),
            (b"s=QQ==,r=mine+,i=4096", "its first message has no `r=` where it belongs"),
            (b"m=1,r=mine+,s=QQ==,i=4096", "its first message has no `r=` where it belongs"),
            (b"", "its first message has no `r=` where it belongs"),
            (b"r=\xff", "a SCRAM message that is no UTF-8"),
            (long.as_bytes(), "a SCRAM message of 4120 bytes, of at most 4096"),
        ] {
            let refused = exchange.prove(challenge).map(|proof| proof.message);
            assert_eq!(refused, Err(why.to_owned()), "{}", String::from_utf8_lossy(challenge));
        }
    }

    #[test]
    fn a_broker_that_does_not_know_the_password_is_found_out() {
        let password = Secret::new("pencil");
        let exchange = Exchange::new(Hash::sha256(), "user", &password, "mine".to_owned());
        let proof = exchange.prove(b"r=mine+theirs,s=QQ==,i=4096").unwrap();
        for (server_final, why) in [
            (
                &b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="[..],
                "its signature is wrong: it does not know the password",
            ),
            (b"v=", "its signature is wrong: it does not know the password"),
            (b"v=!", "its signature is no base64"),
            (b"e=other-error", "it answers `other-error`"),
            (b"", "its final message has no signature"),
        ] {
            assert_eq!(proof.verify(server_final), Err(why.to_owned()));
        }
    }

    #[test]
    fn nonces_differ() {
        assert_ne!(nonce(), nonce());
        assert!(nonce().is_ok_and(|nonce| nonce.len() == 24 && !nonce.contains(',')));
    }
}

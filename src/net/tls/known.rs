//! What is known of certificates that were seen before: servers show the same ones for weeks.
//!
//! That the bytes are the same is told by their SHA-256. A chain that was verified is not verified again, as long as those who
//! are trusted are the same (each configuration has a [`Verified`] of its own) and each certificate is in its time: nothing else
//! of it depends on the moment. That the server has the key of its certificate, and that this is for its name, is verified each
//! time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::digest::{Context, SHA256};
use rustls::pki_types::CertificateDer;

use super::Certificate;
use crate::clock::Timestamp;

/// The SHA-256 of what was seen.
type Digest = [u8; 32];

/// So many make a generation.
const GENERATION_MAX: usize = 4_096;
/// A certificate that takes more than so many bytes is read each time, as hardly any is: together they stay below 20 MB.
const CERTIFICATE_BYTES_MAX: usize = 1_024;

/// What is known of what was seen lately, and of what was seen before that. Older things are forgotten.
#[derive(Debug)]
struct Generations<V> {
    newer: HashMap<Digest, V>,
    older: HashMap<Digest, V>,
}

impl<V> Default for Generations<V> {
    fn default() -> Self {
        Generations { newer: HashMap::new(), older: HashMap::new() }
    }
}

impl<V: Clone> Generations<V> {
    fn get(&mut self, digest: &Digest) -> Option<V> {
        if let Some(value) = self.newer.get(digest) {
            return Some(value.clone());
        }
        let value = self.older.remove(digest)?;
        self.keep(*digest, value.clone());
        Some(value)
    }

    fn keep(&mut self, digest: Digest, value: V) {
        if self.newer.len() >= GENERATION_MAX {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(digest, value);
    }
}

/// Certificates that were read. Nothing is said here about whether they are to be trusted.
#[derive(Debug, Default)]
pub struct Known(Mutex<Generations<Arc<Certificate>>>);

impl Known {
    /// As [`Certificate::read`].
    pub fn read(&self, der: &CertificateDer<'_>) -> Option<Arc<Certificate>> {
        let digest = digest([der]);
        if let Some(certificate) = lock(&self.0).get(&digest) {
            return Some(certificate);
        }
        let certificate = Arc::new(Certificate::read(der)?);
        if certificate.bytes() <= CERTIFICATE_BYTES_MAX {
            lock(&self.0).keep(digest, certificate.clone());
        }
        Some(certificate)
    }
}

/// Chains that were found to be signed by somebody who is trusted, and from when to when all their certificates are valid.
#[derive(Debug, Default)]
pub struct Verified(Mutex<Generations<[Timestamp; 2]>>);

impl Verified {
    /// Verifies `chain` by `verify`, unless that was done before. `read` is what was read of all of it.
    ///
    /// # Errors
    /// What `verify` says.
    pub fn unless_known<'a>(
        &self,
        chain: impl Iterator<Item = &'a CertificateDer<'a>> + Clone,
        read: &[Arc<Certificate>],
        now: Timestamp,
        verify: impl FnOnce() -> Result<(), rustls::Error>,
    ) -> Result<(), rustls::Error> {
        let digest = digest(chain.clone());
        let valid = |[from, until]: [Timestamp; 2]| (from..=until).contains(&now);
        if lock(&self.0).get(&digest).is_some_and(valid) {
            return Ok(());
        }
        verify()?;
        let from = read.iter().map(|one| one.not_before).max();
        let until = read.iter().map(|one| one.not_after).min();
        if let Some(times) = from.zip(until).map(|(from, until)| [from, until])
            && read.len() == chain.count()
            && valid(times)
        {
            lock(&self.0).keep(digest, times);
        }
        Ok(())
    }
}

#[cfg(test)]
impl Verified {
    /// How many chains are known.
    pub fn len(&self) -> usize {
        let known = lock(&self.0);
        known.newer.len() + known.older.len()
    }
}

/// Of all of `chain`, and of where one ends and the next begins.
fn digest<'a>(chain: impl IntoIterator<Item = &'a CertificateDer<'a>>) -> Digest {
    let mut context = Context::new(&SHA256);
    for der in chain {
        context.update(&der.len().to_be_bytes());
        context.update(der);
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

fn lock<T>(known: &Mutex<T>) -> MutexGuard<'_, T> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(names: &[String]) -> rcgen::Certificate {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap()
    }

    fn fill<V: Clone>(generations: &Mutex<Generations<V>>, value: &V) {
        for n in 0..GENERATION_MAX {
            let mut digest = Digest::default();
            digest[..8].copy_from_slice(&n.to_be_bytes());
            lock(generations).keep(digest, value.clone());
        }
    }

    #[test]
    fn a_certificate_that_was_read_is_known_unless_there_are_too_many_or_it_is_too_large() {
        let (first, known) = (own(&["a.example".to_owned()]), Known::default());
        let read = known.read(first.der()).unwrap();
        assert_eq!(Some(&*read), Certificate::read(first.der()).as_ref());
        assert!(Arc::ptr_eq(&read, &known.read(first.der()).unwrap()));
        assert_eq!(known.read(&CertificateDer::from(&b"\x30\x03abc"[..])), None);

        // Who is still shown goes on into the next generation.
        fill(&known.0, &read);
        assert!(Arc::ptr_eq(&read, &known.read(first.der()).unwrap()));
        assert!(lock(&known.0).older.len() < GENERATION_MAX && lock(&known.0).newer.len() <= GENERATION_MAX);
        fill(&known.0, &read);
        fill(&known.0, &read);
        assert!(!Arc::ptr_eq(&read, &known.read(first.der()).unwrap()));

        let large = own(&(0..20).map(|n| format!("{n}{}.example", "a".repeat(40))).collect::<Vec<_>>());
        assert!(!Arc::ptr_eq(&known.read(large.der()).unwrap(), &known.read(large.der()).unwrap()));
    }

    #[test]
    fn chains_are_told_apart_also_by_where_one_certificate_ends() {
        let parts = |parts: &[&'static [u8]]| -> Digest {
            let ders: Vec<_> = parts.iter().map(|part| CertificateDer::from(*part)).collect();
            super::digest(&ders)
        };
        assert_eq!(parts(&[b"ab", b"c"]), parts(&[b"ab", b"c"]));
        for other in [&[&b"a"[..], b"bc"][..], &[b"abc"], &[b"c", b"ab"], &[b"ab"], &[b"ab", b"c", b""]] {
            assert_ne!(parts(other), parts(&[b"ab", b"c"]));
        }
    }

    #[test]
    fn a_chain_is_verified_once_while_all_of_it_is_valid() {
        let (one, other) = (own(&["a.example".to_owned()]), own(&["b.example".to_owned()]));
        let read = |own: &rcgen::Certificate, from, until| {
            let [not_before, not_after] = [from, until].map(Timestamp::from_micros);
            Arc::new(Certificate { not_before, not_after, ..Certificate::read(own.der()).unwrap() })
        };
        let (first, second) = (read(&one, 10, 50), read(&other, 20, 60));
        let verified = Verified::default();
        let refused = || rustls::Error::General("no".to_owned());
        for (chain, read, now, answer, asked) in [
            (&[one.der(), other.der()][..], &[first.clone(), second.clone()][..], 30, Err(refused()), true),
            (&[one.der(), other.der()], &[first.clone(), second.clone()], 30, Ok(()), true),
            (&[one.der(), other.der()], &[first.clone(), second.clone()], 20, Err(refused()), false),
            (&[one.der(), other.der()], &[first.clone(), second.clone()], 50, Err(refused()), false),
            // Not in the time of all.
            (&[one.der(), other.der()], &[first.clone(), second.clone()], 51, Err(refused()), true),
            (&[one.der(), other.der()], &[first.clone(), second.clone()], 19, Err(refused()), true),
            // One of them could not be read, so that nobody knows when it ends.
            (&[other.der(), other.der()], std::slice::from_ref(&second), 30, Ok(()), true),
            (&[other.der(), other.der()], std::slice::from_ref(&second), 30, Err(refused()), true),
            // Another chain.
            (&[other.der(), one.der()], &[second.clone(), first.clone()], 30, Err(refused()), true),
            (&[one.der()], std::slice::from_ref(&first), 30, Err(refused()), true),
            // Out of time, or not to be read: verified each time.
            (&[one.der()], std::slice::from_ref(&first), 60, Ok(()), true),
            (&[one.der()], std::slice::from_ref(&first), 60, Ok(()), true),
            (&[one.der()], std::slice::from_ref(&first), 30, Err(refused()), true),
        ] {
            let mut was_asked = false;
            let said = verified.unless_known(chain.iter().copied(), read, Timestamp::from_micros(now), || {
                was_asked = true;
                answer.clone()
            });
            assert_eq!((was_asked, said), (asked, if asked { answer } else { Ok(()) }), "{now}: {}", chain.len());
        }
    }
}

//! `auth: {oauth2: …}`: a token that a client gets for itself (RFC 6749, section 4.4), sent as a bearer token (RFC 6750).
//!
//! Checks with equal settings share a token. It is kept in memory until shortly before it ends. One check at a time gets a new
//! one; those that need it meanwhile wait, until their own deadlines at most. Whatever fails here says nothing about the target:
//! the check is `unknown`, and no phase of it has a time. How long it took is `token_us` in the result, and part of no phase and
//! of no `under`. A target that answers 401 has its token dropped, so that the next check gets a new one; nothing is retried.
//!
//! The token's server is reached as the environment's proxies say, with TLS settings of its own. It gets credentials, so no
//! redirect is followed. Its certificate does not count in `certificate_days`.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::http::header::{ACCEPT, CONTENT_TYPE};
use ureq::http::{Method, Uri};

use super::answer::Answer;
use super::template::percent_encoded;
use super::{Auth, Expect, Http, Visit, redirect, request, take};
use crate::check::{Outcome, Phase, Phases};
use crate::net::timeline::Span;
use crate::net::{Net, Spoken, TlsSettings, shown};
use crate::secret::Secret;

/// Who asks for a token, where, and for what. Checks for which all of it is equal share a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Where: an absolute `http` or `https` URL without user info or fragment.
    pub url: Uri,
    /// The URL as the config has it, where it holds more than a log may.
    pub typed: Option<Secret>,
    /// Who.
    pub client_id: Secret,
    /// What proves it.
    pub client_secret: Secret,
    /// Where these two go.
    pub credentials: Credentials,
    /// What the token shall be good for (RFC 6749, section 3.3); empty: what the server thinks fit.
    pub scope: Secret,
    /// For whom, which is no part of the RFC and which some servers want; empty: not said.
    pub audience: Secret,
    /// How to do TLS with the token's server.
    pub tls: Arc<TlsSettings>,
}

/// Where the client's credentials go (RFC 6749, section 2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Into the header `Authorization`, as user and password, which every server has to take.
    Header,
    /// Into the form, which some servers want.
    Body,
}

/// How much of the answer is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long a token may be: it has to go into a header.
const TOKEN_BYTES_MAX: usize = 8 << 10;
/// Tokens that are kept; the oldest is dropped for one more.
const TOKENS_MAX: usize = 1_000;
/// How long a token is kept whose answer does not say when it ends. A target that does not take it any more says so.
const LIFETIME_UNSAID: Duration = Duration::from_secs(300);
/// No token is kept longer, whatever its answer says.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// A token is kept so much shorter than it lasts, or by a tenth, where that is less: it still has to get to the target.
const MARGIN_MAX: Duration = Duration::from_secs(30);

/// Does `ask` with the request that has its token, and tells it how long that took. Without `oauth2`, with the request as it is.
pub fn with(http: &Http, net: &Net, deadline: Instant, ask: impl FnOnce(&Http, Duration) -> Outcome) -> Outcome {
    let Some(Auth::OAuth2 { grant, .. }) = &http.auth else { return ask(http, Duration::ZERO) };
    let begun = Instant::now();
    let got = net.tokens().token(grant, net, deadline);
    let took = begun.elapsed();
    let mut outcome = match got {
        Ok(token) => {
            let mut http = http.clone();
            http.known.extend(take::spellings(token.expose()));
            http.auth = Some(Auth::OAuth2 { grant: grant.clone(), token: Some(token) });
            let mut outcome = ask(&http, took);
            if let Some(first) = outcome.timeline.first_mut() {
                first.notes.insert(0, format!("token in {}", Spoken(took)));
            }
            outcome
        }
        Err(failed) => failed.outcome(grant),
    };
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    outcome.result.insert("token_us".to_owned(), micros.into());
    outcome
}

/// Drops the token that a target did not take, and says so; one that is expected to answer 401 has taken it well.
pub fn refused(http: &Http, net: &Net, visit: &Visit, outcome: &mut Outcome) {
    let Some(Auth::OAuth2 { grant, token: Some(token) }) = &http.auth else { return };
    let unauthorized = visit.answer.head.as_ref().is_some_and(|head| head.status == 401);
    if unauthorized && !http.expect.allows(401) && visit.own_origin {
        net.tokens().forget(grant, token);
        let reason = outcome.reason.get_or_insert_default();
        reason.push_str("; the token is dropped, the next check gets a new one");
    }
}

/// Tokens by whom they were given to.
#[derive(Debug, Default)]
pub struct Tokens(Mutex<VecDeque<Arc<Kept>>>);

/// The token of one client, and who waits for it.
#[derive(Debug)]
struct Kept {
    grant: Arc<Grant>,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    token: Option<(Secret, Instant)>,
    /// A check is getting a new one.
    under_way: bool,
    /// How many times one was got, or not.
    rounds: u64,
    /// How the newest of them failed, where it did for a reason that holds for whoever waited.
    failed: Option<Failed>,
}

/// Why there is no token.
#[derive(Clone, Debug)]
struct Failed {
    /// Where; `None`: nobody was asked. An answer without a token fails in `assert`.
    phase: Option<Phase>,
    reason: String,
    timeline: Vec<Span>,
}

impl Failed {
    fn outcome(self, grant: &Grant) -> Outcome {
        let from = redirect::without_query(&asked(grant), &grant.url);
        let mut outcome = Outcome::unknown(format!("token from {from}: {}", self.reason));
        outcome.phase = self.phase;
        outcome.timeline = self.timeline;
        outcome.result.insert("phases".to_owned(), json!(Phases::default()));
        outcome
    }
}

impl Tokens {
    /// A token that is good for a while yet.
    fn token(&self, grant: &Arc<Grant>, net: &Net, deadline: Instant) -> Result<Secret, Failed> {
        let (kept, begun) = (self.kept(grant), Instant::now());
        let mut state = lock(&kept.state);
        let first = state.rounds;
        loop {
            let now = Instant::now();
            if let Some((token, _)) = state.token.as_ref().filter(|(_, until)| now < *until) {
                return Ok(token.clone());
            }
            // What came of the round that it waited for, and of none that had ended when it came.
            if state.rounds > first
                && let Some(failed) = &state.failed
            {
                return Err(failed.clone());
            }
            if !state.under_way {
                state.under_way = true;
                break;
            }
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() {
                let waited = Spoken(now.saturating_duration_since(begun));
                let reason = format!("another check is getting it, and has not got it within {waited}");
                return Err(Failed { phase: None, reason, timeline: Vec::new() });
            }
            state = kept.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        let mut round = Round { kept: &kept, token: None, failed: None };
        let (token, lifetime) = fetch(grant, net, deadline).inspect_err(|failed| round.fails(failed, deadline))?;
        let margin = MARGIN_MAX.min(lifetime / 10);
        round.token = Some((token.clone(), Instant::now() + lifetime.min(LIFETIME_MAX).saturating_sub(margin)));
        Ok(token)
    }

    fn kept(&self, grant: &Arc<Grant>) -> Arc<Kept> {
        let mut all = lock(&self.0);
        if let Some(kept) = all.iter().find(|kept| kept.grant == *grant) {
            return kept.clone();
        }
        if all.len() >= TOKENS_MAX {
            all.pop_front();
        }
        let kept = Arc::new(Kept { grant: grant.clone(), state: Mutex::default(), ended: Condvar::new() });
        all.push_back(kept.clone());
        kept
    }

    fn forget(&self, grant: &Arc<Grant>, token: &Secret) {
        let kept = self.kept(grant);
        let mut state = lock(&kept.state);
        if state.token.as_ref().is_some_and(|(kept, _)| kept == token) {
            state.token = None;
        }
    }
}

/// Getting a token. However it ends, also in a panic, it ends for those who wait.
struct Round<'k> {
    kept: &'k Kept,
    token: Option<(Secret, Instant)>,
    failed: Option<Failed>,
}

impl Round<'_> {
    /// Whoever waited has more time, maybe, than the check whose time is up.
    fn fails(&mut self, failed: &Failed, deadline: Instant) {
        if Instant::now() < deadline {
            self.failed = Some(Failed { timeline: Vec::new(), ..failed.clone() });
        }
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.kept.state);
        *state =
            State { token: self.token.take(), under_way: false, rounds: state.rounds + 1, failed: self.failed.take() };
        drop(state);
        self.kept.ended.notify_all();
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks for a token; it, and how long it lasts.
fn fetch(grant: &Grant, net: &Net, deadline: Instant) -> Result<(Secret, Duration), Failed> {
    let http = asked(grant);
    let (visit, failure) = Visit::made(&http, None, net, deadline);
    let failed = |phase, reason| Failed { phase: Some(phase), reason, timeline: visit.course.timeline.spans() };
    match failure {
        Some(failure) => Err(failed(failure.phase, failure.reason)),
        None => granted(&http, &visit.answer).map_err(|reason| failed(Phase::Assert, reason)),
    }
}

/// The request for a token (RFC 6749, section 4.4.2).
fn asked(grant: &Grant) -> Http {
    let Grant { client_id, client_secret, scope, audience, .. } = grant;
    let (id, secret) = (percent_encoded(client_id.expose()), percent_encoded(client_secret.expose()));
    let mut body = "grant_type=client_credentials".to_owned();
    for (key, value) in [("scope", scope), ("audience", audience)] {
        if !value.expose().is_empty() {
            body += &format!("&{key}={}", percent_encoded(value.expose()));
        }
    }
    let mut known = take::spellings(client_secret.expose());
    known.push(Secret::new(request::basic(&id, &secret)));
    let from_elsewhere = [client_id, scope, audience].into_iter().flat_map(Secret::kept_elsewhere);
    known.extend(from_elsewhere.map(Secret::new));
    let auth = match grant.credentials {
        Credentials::Header => Some(Auth::Basic { user: Secret::new(id), password: Secret::new(secret) }),
        Credentials::Body => {
            body += &format!("&client_id={id}&client_secret={secret}");
            None
        }
    };
    Http {
        typed: grant.typed.clone(),
        method: Method::POST,
        headers: vec![
            (CONTENT_TYPE, Secret::new("application/x-www-form-urlencoded")),
            (ACCEPT, Secret::new("application/json")),
        ],
        body: Secret::new(body),
        auth,
        redirects: 0,
        tls: grant.tls.clone(),
        expect: Arc::new(Expect { body_max: ANSWER_BYTES_MAX, ..Expect::default() }),
        keep_body: true,
        known,
        ..Http::get(grant.url.clone())
    }
}

/// What an answer grants (RFC 6749, section 5.1), or why it grants nothing (section 5.2).
fn granted(http: &Http, answer: &Answer) -> Result<(Secret, Duration), String> {
    let status = answer.head.as_ref().map_or(0, |head| head.status.as_u16());
    let body = serde_json::from_slice::<Value>(&answer.body).ok();
    let word = |key: &str| {
        let text = body.as_ref().and_then(|body| body.get(key)).and_then(Value::as_str);
        text.map(|text| shown(&http.without_secrets(text.as_bytes())))
    };
    if !(200..300).contains(&status) {
        let why = word("error").map(|error| match word("error_description") {
            Some(more) => format!(", `{error}`: {more}"),
            None => format!(", `{error}`"),
        });
        return Err(format!("status {status}{}", why.unwrap_or_default()));
    }
    if answer.cut {
        return Err(format!("the answer is longer than {} KiB", ANSWER_BYTES_MAX / 1024));
    }
    let Some(body) = &body else { return Err("the answer is not JSON".to_owned()) };
    // Every answer has to have a type; one that has none is no reason to doubt the token.
    if let Some(kind) = word("token_type").filter(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(format!("its type is `{kind}`, and not `bearer`"));
    }
    let token = body["access_token"].as_str().ok_or("the answer has no `access_token`")?;
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || token.bytes().any(|byte| !byte.is_ascii_graphic()) {
        let bound = TOKEN_BYTES_MAX / 1024;
        return Err(format!("its `access_token` is empty, longer than {bound} KiB, or holds what a header cannot"));
    }
    Ok((Secret::new(token), lifetime(&body["expires_in"])))
}

/// How long a token lasts. Some servers write the seconds as a text; what is no number of seconds is as if it were not there.
fn lifetime(seconds: &Value) -> Duration {
    let seconds = seconds.as_f64().or_else(|| seconds.as_str()?.trim().parse().ok());
    let bounded = |seconds: f64| Duration::from_secs_f64(seconds.clamp(0.0, LIFETIME_MAX.as_secs_f64()));
    seconds.filter(|seconds| !seconds.is_nan()).map_or(LIFETIME_UNSAID, bounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(client: usize) -> Arc<Grant> {
        Arc::new(Grant {
            url: "http://192.0.2.1/token".parse().unwrap(),
            typed: None,
            client_id: Secret::new(client.to_string()),
            client_secret: Secret::new("hunter2"),
            credentials: Credentials::Header,
            scope: Secret::default(),
            audience: Secret::default(),
            tls: Arc::default(),
        })
    }

    #[test]
    fn tokens_are_bounded_and_the_oldest_goes() {
        let tokens = Tokens::default();
        let first = tokens.kept(&grant(0));
        assert!(Arc::ptr_eq(&first, &tokens.kept(&grant(0))), "equal settings share a token");
        for client in 1..=TOKENS_MAX {
            tokens.kept(&grant(client));
        }
        assert_eq!(lock(&tokens.0).len(), TOKENS_MAX);
        assert!(!Arc::ptr_eq(&first, &tokens.kept(&grant(0))));
    }

    #[test]
    fn a_panic_lets_the_next_one_ask() {
        let tokens = Tokens::default();
        let kept = tokens.kept(&grant(0));
        lock(&kept.state).under_way = true;
        let panics = || {
            let _round = Round { kept: &kept, token: None, failed: None };
            panic!("in the midst of it");
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        let state = lock(&kept.state);
        assert!(!state.under_way && state.rounds == 1 && state.failed.is_none());
    }

    #[test]
    fn a_token_lasts_as_long_as_is_said_within_bounds() {
        for (said, seconds) in [
            (json!(3600), 3600),
            (json!("60"), 60),
            (json!(0), 0),
            (json!(-1), 0),
            (json!(1e300), 24 * 3600),
            (json!(null), 300),
            (json!("soon"), 300),
            (json!("NaN"), 300),
        ] {
            assert_eq!(lifetime(&said), Duration::from_secs(seconds), "{said}");
        }
    }
}

//! What of a request is not to be shown where a peer repeats it: what the user has put elsewhere than into the config, and what
//! is masked on its way out.

use std::borrow::Cow;

use ureq::http::header::SEC_WEBSOCKET_PROTOCOL;

use super::{Auth, Http, heads, request};
use crate::net::blanked;
use crate::secret::Secret;

/// What is masked only because it may hold a key is looked for from this length on: what is shorter is in many a text.
const GUESS_BYTES_MIN: usize = 6;

/// The name of a subprotocol, which reasons have to tell, is no longer than this; what is longer may be a token.
const SUBPROTOCOL_BYTES_MAX: usize = 32;

impl Http {
    /// What came, without what repeats a secret of the request.
    pub(super) fn without_secrets<'b>(&self, came: &'b [u8]) -> Cow<'b, [u8]> {
        let hidden = self.hidden();
        blanked(came, &hidden.iter().map(AsRef::as_ref).collect::<Vec<_>>())
    }

    /// The secrets of the request, but for those in its host, which reasons have to name.
    pub(super) fn hidden(&self) -> Vec<Cow<'_, str>> {
        let mut hidden: Vec<Cow<'_, str>> = self.known.iter().map(|known| known.expose().into()).collect();
        match &self.auth {
            Some(Auth::Basic { user, password }) => {
                hidden.extend(user.kept_elsewhere().into_iter().map(Cow::from));
                hidden.push(password.expose().into());
                hidden.push(request::basic(user.expose(), password.expose()).into());
            }
            Some(Auth::Bearer(token)) => hidden.push(token.expose().into()),
            // Its token is among what is known.
            Some(Auth::OAuth2 { .. }) | None => {}
        }
        let values = self.headers.iter().map(|(_, value)| value);
        let from_elsewhere = self.typed.iter().chain(values).chain([&self.body]).flat_map(Secret::kept_elsewhere);
        let masked = self.headers.iter().filter(|(name, _)| !heads::is_harmless(name.as_str()));
        let (subprotocols, masked): (Vec<_>, Vec<_>) = masked.partition(|(name, _)| name == SEC_WEBSOCKET_PROTOCOL);
        let guessed = masked.into_iter().flat_map(|(_, value)| parts_of_value(value.expose()));
        let subprotocols = subprotocols.into_iter().flat_map(|(_, value)| value.expose().split(',').map(str::trim));
        let guessed = guessed.chain(subprotocols.filter(|subprotocol| subprotocol.len() > SUBPROTOCOL_BYTES_MAX));
        let guessed = guessed.chain(self.url.query().into_iter().flat_map(parts_of_query));
        let guessed = guessed.filter(|part| part.len() >= GUESS_BYTES_MIN);
        hidden.extend(from_elsewhere.chain(guessed).map(Cow::from));
        let host = self.url.host().unwrap_or_default();
        hidden.retain(|part| !host.contains(&**part));
        hidden
    }
}

/// A header's value, what follows its scheme (RFC 9110, section 11.4), and the values of a cookie's pairs (RFC 6265).
fn parts_of_value(value: &str) -> impl Iterator<Item = &str> {
    let after_scheme = value.split_once(' ').map(|(_, rest)| rest.trim());
    let pairs = value.split(';').filter_map(|pair| Some(pair.split_once('=')?.1.trim()));
    std::iter::once(value).chain(after_scheme).chain(pairs)
}

/// A query, and the values in it.
fn parts_of_query(query: &str) -> impl Iterator<Item = &str> {
    let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
    std::iter::once(query).chain(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBPROTOCOLS: &str = "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.dG9rZW4";

    #[test]
    fn what_is_masked_on_its_way_out_is_masked_where_it_comes_back() {
        let http = Http {
            auth: Some(Auth::Basic { user: Secret::new("ann"), password: Secret::new("pw-of-ann") }),
            headers: [("x-api-key", "key-1234"), ("authorization", "Bearer tok.en"), ("cookie", "a=1; sid=s3ss10n")]
                .into_iter()
                .chain([("accept", "text/plain"), ("x-short", "true"), ("sec-websocket-protocol", SUBPROTOCOLS)])
                .map(|(name, value)| (name.parse().unwrap(), Secret::new(value)))
                .collect(),
            ..Http::get("https://a.example/x?token=t0ken-9&q=abc".parse().unwrap())
        };
        for (came, shown) in [
            ("ann, pw-of-ann", "ann, ***"),
            ("Basic YW5uOnB3LW9mLWFubg==, no", "Basic ***, no"),
            ("key-1234", "***"),
            ("invalid Bearer tok.en!", "invalid ***!"),
            ("cookie s3ss10n is old", "cookie *** is old"),
            ("true text/plain", "true text/plain"),
            ("/x?token=t0ken-9&q=abc: no", "/x?***: no"),
            ("t0ken-9 is no token, nor is abc", "*** is no token, nor is abc"),
            ("no v4.channel.k8s.io", "no v4.channel.k8s.io"),
            ("base64url.bearer.authorization.k8s.io.dG9rZW4?", "***?"),
            ("a.example", "a.example"),
        ] {
            assert_eq!(String::from_utf8_lossy(&http.without_secrets(came.as_bytes())), shown, "{came}");
        }
    }
}

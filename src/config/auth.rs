//! The credentials of `http` checks, read and written.

use std::sync::Arc;

use super::error::Complaint;
use super::explain::{as_typed, tls_map};
use super::kinds::tls_settings;
use super::shared::secret;
use super::targets::{has_user_info, url};
use super::walk::{At, Read};
use super::write::{Doc, Map, quote};
use crate::check::http::{Auth, Credentials, Grant};
use crate::secret::Secret;

pub(super) fn auth(at: &At<'_>) -> Read<Auth> {
    let at = &at.quietly();
    at.mapping(&["basic", "bearer", "oauth2"])?;
    match (at.get("basic").map(At::referring), at.get("bearer").map(At::referring), at.get("oauth2")) {
        (Some(at), None, None) => basic(&at),
        (None, Some(at), None) => bearer(&at),
        (None, None, Some(at)) => Ok(Auth::OAuth2 { grant: Arc::new(grant(&at)?), token: None }),
        _ => Err(at.fail("expected one of `basic`, `bearer` and `oauth2`")),
    }
}

fn basic(at: &At<'_>) -> Read<Auth> {
    at.mapping(&["user", "password", "password_file"])?;
    let user_at = at.need("user", "probe")?;
    user_at.text("text", |text| match text {
        text if text.contains(':') => Err("holds a colon, and a user cannot (RFC 7617)".into()),
        text if text.chars().any(char::is_control) => Err("holds a control character".into()),
        _ => Ok(()),
    })?;
    let user = user_at.expanded("text")?.secret();
    let password = secret(at, "password")?.ok_or_else(|| missing(at, "password"))?;
    Ok(Auth::Basic { user, password })
}

fn bearer(at: &At<'_>) -> Read<Auth> {
    at.mapping(&["token", "token_file"])?;
    let token = secret(at, "token")?.ok_or_else(|| missing(at, "token"))?;
    if token.expose().bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(at.fail("the token holds a character that a header cannot"));
    }
    Ok(Auth::Bearer(token))
}

fn grant(at: &At<'_>) -> Read<Grant> {
    let known = ["token_url", "client_id", "client_secret", "client_secret_file", "scope", "audience"];
    at.mapping(&[&known[..], &["credentials", "tls"]].concat())?;
    let place = at.need("token_url", "https://id.example.com/oauth2/token")?;
    let expanded = place.expanded("a URL")?;
    if has_user_info(&expanded.text) {
        let complaint = Complaint::new("the URL names a user, and so would every log");
        return Err(place.fail(complaint.hint("use `client_id` and `client_secret_file`")));
    }
    // The hint that comes with it repeats what was typed.
    let uri = url(&expanded.text).map_err(|complaint| {
        place.refuse(Complaint::new(complaint.what).hint("for example `https://id.example.com/oauth2/token`"))
    })?;
    let credentials =
        at.read("credentials", |at| at.choice(&[("header", Credentials::Header), ("body", Credentials::Body)]))?;
    let client_id = text(&at.need("client_id", "pingeon")?)?;
    Ok(Grant {
        url: uri,
        typed: (expanded.origin().is_some() || expanded.text.contains('?')).then(|| expanded.secret()),
        client_id,
        credentials: credentials.unwrap_or(Credentials::Header),
        scope: at.read("scope", text)?.unwrap_or_default(),
        audience: at.read("audience", text)?.unwrap_or_default(),
        tls: tls_settings(at)?,
        client_secret: secret(at, "client_secret")?.ok_or_else(|| missing(at, "client_secret"))?,
    })
}

fn text(at: &At<'_>) -> Read<Secret> {
    let expanded = at.expanded("text")?;
    match expanded.text.is_empty() {
        true => Err(at.refuse("is empty")),
        false => Ok(expanded.secret()),
    }
}

/// Neither `key` nor `key_file` is there.
pub(super) fn missing(at: &At<'_>, key: &str) -> super::ConfigError {
    let complaint = Complaint::new(format!("`{key}_file` is missing"));
    at.fail(complaint.hint(format!("for example `{key}_file: secrets/{key}`, or `{key}: ${{NAME}}`")))
}

/// Writes `auth`.
pub(super) fn auth_keys(map: &mut Map, auth: &Auth) {
    let mut keys = Map::default();
    let name = match auth {
        Auth::Basic { user, password } => {
            keys.0.push(("user".to_owned(), as_typed(user)));
            keys.secret("password", password);
            "basic"
        }
        Auth::Bearer(token) => {
            keys.secret("token", token);
            "bearer"
        }
        Auth::OAuth2 { grant, .. } => {
            grant_keys(&mut keys, grant);
            "oauth2"
        }
    };
    map.map("auth", Map(vec![(name.to_owned(), Doc::Map(keys))]));
}

fn grant_keys(keys: &mut Map, grant: &Grant) {
    let url = grant.typed.as_ref().map_or_else(|| quote(&grant.url.to_string()), as_typed);
    keys.0.push(("token_url".to_owned(), url));
    keys.0.push(("client_id".to_owned(), as_typed(&grant.client_id)));
    keys.secret("client_secret", &grant.client_secret);
    for (key, value) in [("scope", &grant.scope), ("audience", &grant.audience)] {
        if !value.expose().is_empty() {
            keys.0.push((key.to_owned(), as_typed(value)));
        }
    }
    keys.plain("credentials", if grant.credentials == Credentials::Header { "header" } else { "body" });
    keys.map("tls", tls_map(&grant.tls));
}

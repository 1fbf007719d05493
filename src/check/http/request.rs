//! The request of one hop: the way to its host, and the headers that go there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ureq::http::Request;
use ureq::http::header::{AUTHORIZATION, CONNECTION, HeaderName, HeaderValue};
use ureq::http::uri::Authority;

use super::redirect::{self, Hop};
use super::{Auth, Http, guard, heads};
use crate::check::Phase;
use crate::net::{Course, Failure, Host, Net, ProxyScheme, Stream, proxy::Through, tls};

/// A connection that is ready for a request.
#[derive(Debug)]
pub struct Wire {
    /// The connection.
    pub stream: Stream,
    /// Who is at its other end, for messages.
    pub peer: String,
    /// Set where a proxy is asked to get the URL itself, and not for a tunnel.
    pub forwarded: Option<Forwarded>,
    /// Whether a proxy is in between.
    pub proxied: bool,
}

/// What a request to a forwarding proxy has beside (RFC 9112, section 3.2.2).
#[derive(Debug)]
pub struct Forwarded {
    /// Scheme and authority, which go before the path; taken when they were sent.
    pub origin: Option<String>,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<String>,
}

/// Connects to where `hop` goes: through a proxy or straight, with TLS or without; to the URL's own host at `own` where that is
/// given.
///
/// # Errors
/// What is in the way.
pub fn reach(http: &Http, own: Option<&Host>, net: &Net, hop: &Hop, course: &mut Course) -> Result<Wire, Failure> {
    let secure = hop.uri.scheme_str() == Some("https");
    let (host, port) = (Host::parse(hop.uri.host().unwrap_or_default()), redirect::port(&hop.uri));
    let pinned = pinned(http, own, hop, port);
    let through = http
        .proxy
        .towards(net.proxies(), secure, &host, port)
        .map_err(|reason| course.blocked(Phase::Connect, reason))?;
    let place = pinned.clone().unwrap_or_else(|| (host.clone(), port));
    if through.is_some() && pinned.is_none() {
        guard::literal(http, hop, &host, course)?;
    }
    // A WebSocket goes through a tunnel always (RFC 6455, section 4.1).
    let asks_for_tunnel = secure || pinned.is_some() || http.websocket;
    let mut wire = match through {
        None => straight(http, net, hop, &place, pinned.is_some(), course)?,
        // Plain HTTP goes to a proxy as it is, since many refuse to tunnel it; but a pinned address needs a tunnel, since
        // the proxy would look up the name.
        Some(through) if through.scheme == ProxyScheme::Http && !asks_for_tunnel => {
            forwarded(http, net, &through, hop, course)?
        }
        Some(through) => tunnelled(http, net, &through, &place, course)?,
    };
    if secure {
        let asked = tls::Asked { settings: &http.tls, host: &host, own_host: hop.own_origin, alpn: Some(b"http/1.1") };
        tls::secure(&mut wire.stream, net.tls(), asked, &wire.peer, course)?;
    }
    Ok(wire)
}

/// Where a hop goes instead of to its URL's host: `connect_to` is for the own origin, and one address of many for the own host,
/// also where it leads on from `http` to `https`.
fn pinned(http: &Http, own: Option<&Host>, hop: &Hop, port: u16) -> Option<(Host, u16)> {
    if let Some(address) = http.connect_to.filter(|_| hop.own_origin) {
        let port = if address.port() == 0 { port } else { address.port() };
        return Some((Host::Address(address.ip()), port));
    }
    own.filter(|_| redirect::same_host(&hop.uri, &http.url)).map(|place| (place.clone(), port))
}

/// A place that is pinned was named by the user, or is one of the own host's addresses, wherever it is.
fn straight(
    http: &Http,
    net: &Net,
    hop: &Hop,
    (host, port): &(Host, u16),
    pinned: bool,
    course: &mut Course,
) -> Result<Wire, Failure> {
    let mut addresses = net.resolve(host, *port, http.ip, course)?;
    if !pinned {
        addresses = guard::addresses(http, hop, addresses, course)?;
    }
    let stream = net.connect(host, addresses, course)?;
    let peer = course.address.map_or_else(|| format!("{host}:{port}"), |address| address.to_string());
    Ok(Wire { stream, peer, forwarded: None, proxied: false })
}

fn forwarded(http: &Http, net: &Net, through: &Through<'_>, hop: &Hop, course: &mut Course) -> Result<Wire, Failure> {
    let stream = through.reach(net, http.ip, course)?;
    let authority = hop.uri.authority().map(Authority::as_str).unwrap_or_default();
    let forwarded = Forwarded { origin: Some(format!("http://{authority}")), authorization: through.authorization() };
    Ok(Wire { stream, peer: through.to_string(), forwarded: Some(forwarded), proxied: true })
}

fn tunnelled(
    http: &Http,
    net: &Net,
    through: &Through<'_>,
    (host, port): &(Host, u16),
    course: &mut Course,
) -> Result<Wire, Failure> {
    let mut stream = through.reach(net, http.ip, course)?;
    through.tunnel(&mut stream, host, *port, course)?;
    Ok(Wire { stream, peer: format!("{host}:{port} (through {through})"), forwarded: None, proxied: true })
}

/// The request of a hop, with the headers that may go there.
///
/// # Errors
/// Which header cannot be sent.
pub fn head(http: &Http, hop: &Hop, forwarded: Option<&Forwarded>) -> Result<Request<()>, String> {
    let mut request = Request::new(());
    *request.method_mut() = hop.method.clone();
    *request.uri_mut() = hop.uri.clone();
    let headers = request.headers_mut();
    for (name, value) in &http.headers {
        if hop.own_origin || heads::OF_WHAT_IS_WANTED.contains(&name.as_str()) {
            headers.append(name.clone(), secret_value(name, value.expose())?);
        }
    }
    if let Some(auth) = http.auth.as_ref().filter(|_| hop.own_origin) {
        let value = match auth {
            Auth::Basic { user, password } => {
                format!("Basic {}", basic(user.expose(), password.expose()))
            }
            Auth::Bearer(token) | Auth::OAuth2 { token: Some(token), .. } => format!("Bearer {}", token.expose()),
            Auth::OAuth2 { token: None, .. } => return Err("there is no token yet".to_owned()),
        };
        headers.insert(AUTHORIZATION, secret_value(&AUTHORIZATION, &value)?);
    }
    if let Some(value) = forwarded.and_then(|forwarded| forwarded.authorization.as_deref()) {
        let name = HeaderName::from_static("proxy-authorization");
        headers.insert(name.clone(), secret_value(&name, value)?);
    }
    // No connection is kept, and the server may as well know.
    if !headers.contains_key(CONNECTION) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(request)
}

/// User and password as one word (RFC 7617, section 2).
pub fn basic(user: &str, password: &str) -> String {
    BASE64.encode(format!("{user}:{password}"))
}

fn secret_value(name: &HeaderName, value: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(value).map_err(|_| format!("the value of header `{name}` cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

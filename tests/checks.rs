//! Checks against servers that misbehave in every way we know of: each line is a server, what is checked, and the verdict,
//! phase and reason that must come of it. All servers are this process's own, on `127.0.0.1`, but for those of ICMP, which live in network
//! namespaces of their own and need root.

#[path = "checks/dialogue.rs"]
mod dialogue;
#[path = "checks/dns.rs"]
mod dns;
#[path = "checks/each.rs"]
mod each;
#[path = "checks/exec.rs"]
mod exec;
#[path = "checks/handshake.rs"]
mod handshake;
#[path = "checks/icmp.rs"]
mod icmp;
#[path = "checks/namespaces.rs"]
mod namespaces;
#[path = "checks/oauth.rs"]
mod oauth;
#[path = "checks/pki.rs"]
mod pki;
#[path = "checks/plain.rs"]
mod plain;
#[path = "checks/proxies.rs"]
mod proxies;
#[path = "checks/responder.rs"]
mod responder;
#[path = "checks/secrets.rs"]
mod secrets;
#[path = "checks/secure.rs"]
mod secure;
#[path = "checks/servers.rs"]
mod servers;
#[path = "checks/starttls.rs"]
mod starttls;
#[path = "checks/steps.rs"]
mod steps;
#[path = "checks/table.rs"]
mod table;
#[path = "checks/websocket.rs"]
mod websocket;

//! A config from its files: found, read, put together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checks::{self, Checks, Defaults};
use super::error::{Complaint, ConfigError};
use super::expand::Environment;
use super::shared::read_bytes;
use super::source::{FILE_BYTES_MAX, Source};
use super::walk::{At, Read, Reading, quoted};
use super::yaml::{self, Node};
use super::{Config, Outline, Store};
use super::{maintenance, sections};
use crate::check::{Check, Kind};

/// Where the package puts the config.
const INSTALLED: &str = "/etc/pingeon/pingeon.yaml";
/// Where its data goes then: /etc holds what an operator wrote, and nothing else (Filesystem Hierarchy Standard 3.0, 5.8).
const INSTALLED_DATA: &str = "/var/lib/pingeon";
/// Files that one config may include.
const INCLUDED_MAX: usize = 10_000;
/// How many bytes all included files may hold.
const INCLUDED_BYTES_MAX: usize = 64 << 20;
/// Checks in `network_gate`: they are asked one after the other, while a worker waits.
const GATE_MAX: usize = 5;

/// The config to use: the one that was named, else `pingeon.yaml` in the working directory, else the installed one.
///
/// # Errors
/// Neither of the two is there.
pub fn find(explicit: Option<&Path>) -> Result<PathBuf, ConfigError> {
    if let Some(path) = explicit {
        return Ok(path.to_owned());
    }
    let places = [Path::new("pingeon.yaml"), Path::new(INSTALLED)];
    places.into_iter().find(|path| path.exists()).map(Path::to_owned).ok_or_else(|| {
        let complaint = Complaint::new(format!("no config: neither `./pingeon.yaml` nor `{INSTALLED}` is there"));
        ConfigError::nowhere(complaint.hint("write one, or name one with `-c FILE`"))
    })
}

/// Reads a config, the files that it includes and the secrets that it names.
///
/// # Errors
/// Anything that is wrong with it, the first of it.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
    let (source, node) = read_file(path)?;
    let reading = reading(path, env)?;
    config(&At::root(&reading, &source, &node))
}

/// What a config says of its store; of one that names none beside its queue, that it is in Postgres. Nothing else of the config is
/// looked at: neither has it to be whole nor have the secrets to be there.
///
/// # Errors
/// Anything that is wrong with that.
pub fn outline(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Outline, ConfigError> {
    let (source, node) = read_file(path)?;
    let reading = reading(path, env)?;
    let at = At::root(&reading, &source, &node);
    let without = if at.get("queue").is_some() { Outline::Postgres(None) } else { Outline::Sqlite };
    Ok(at.read("store", sections::outline)?.unwrap_or(without))
}

fn reading<'a>(path: &Path, environment: Environment<'a>) -> Read<Reading<'a>> {
    let (directory, shared) = (directory(path)?, super::shared::Shared::default());
    let data = if is_installed(path) { INSTALLED_DATA.into() } else { directory.clone() };
    Ok(Reading { environment, directory, data, shared })
}

/// Whether this is a config where the package puts it, however it was named.
fn is_installed(path: &Path) -> bool {
    std::path::absolute(path).is_ok_and(|path| path.parent() == Path::new(INSTALLED).parent())
}

/// What relative paths of files to read are relative to: nothing where that is the working directory, else an absolute path.
fn directory(path: &Path) -> Read<PathBuf> {
    match path.parent() {
        None => Ok(PathBuf::new()),
        Some(parent) if parent == Path::new("") || parent == Path::new(".") => Ok(PathBuf::new()),
        Some(parent) => std::path::absolute(parent).map_err(|error| {
            ConfigError::nowhere(Complaint::new(format!("cannot make out where `{}` is: {error}", path.display())))
        }),
    }
}

fn read_file(path: &Path) -> Read<(Source, Node)> {
    let source = Source::new(path, read_bytes(path, FILE_BYTES_MAX).map_err(ConfigError::nowhere)?)?;
    let node = yaml::parse(&source)?;
    Ok((source, node))
}

fn config(at: &At<'_>) -> Read<Config> {
    if *at.node == Node::Null {
        let complaint = Complaint::new("the file holds no config");
        return Err(at.fail(complaint.hint("a config begins with `checks:`; the sample pingeon.yaml has all of it")));
    }
    at.mapping(&[
        "agent",
        "defaults",
        "checks",
        "include",
        "network_gate",
        "maintenance",
        "spool",
        "queue",
        "store",
        "web",
        "log",
    ])?;
    let agent: Arc<str> = at.read("agent", |at| at.text("text", agent))?.map_or_else(|| host_name(at), Ok)?.into();
    let defaults = at.read("defaults", checks::defaults)?.unwrap_or_default();
    let checks = all_checks(at, &defaults)?;
    let network_gate = at.read("network_gate", |at| gate(at, &checks))?.unwrap_or_default();
    let maintenance = at.read("maintenance", maintenance::maintenance)?.unwrap_or_default();
    let spool = sections::spool(at.get("spool").as_ref(), &at.reading.data)?;
    let queue = at.read("queue", sections::queue)?;
    let store = match at.read("store", |at| sections::store(at, &sections::beside(&spool.path)))? {
        None if queue.is_none() => Some(sections::store_default(&spool)),
        store => store,
    };
    if let Some(Store::Sqlite(sqlite)) = &store
        && sqlite.path == spool.path
    {
        let complaint =
            Complaint::new(format!("spool and store are the same file, {}", quoted(&spool.path.display().to_string())));
        return Err(at.fail(complaint.hint("give one of them another `path`")));
    }
    let web = at.read("web", sections::web)?;
    let log_level = at.read("log", sections::log)?.unwrap_or(log::LevelFilter::Info);
    Ok(Config {
        agent,
        workers_max: defaults.workers_max,
        checks,
        network_gate,
        maintenance,
        spool,
        queue,
        store,
        web,
        log_level,
    })
}

fn agent(text: &str) -> Result<String, Complaint> {
    match checks::label(text) {
        Ok(agent) if agent.contains('/') => Err("holds a slash, which parts agent and label in a message's key".into()),
        agent => agent,
    }
}

fn host_name(at: &At<'_>) -> Read<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    agent(&name).map_err(|complaint| {
        at.fail(Complaint::new(format!("the host's name {}", complaint.what)).hint("set `agent: edge-01`"))
    })
}

/// The checks of the file itself, then those of the files that it includes, by name.
fn all_checks(at: &At<'_>, defaults: &Defaults) -> Read<Vec<Arc<crate::check::Check>>> {
    let mut read = Checks::default();
    let empty = Node::List(Vec::new());
    let own = at.get("checks").unwrap_or(at.holding(&empty));
    checks::list(&mut read, &own, &[], defaults)?;
    let files = at.read("include", included)?.unwrap_or_default();
    let roots: Vec<At<'_>> = files.iter().map(|(source, node)| At::root(at.reading, source, node)).collect();
    let mut lists = vec![own];
    for root in &roots {
        let list = match root.node {
            // All of it may be commented out.
            Node::Null => root.holding(&empty),
            Node::Map(_) => {
                root.mapping(&["checks"])?;
                root.need("checks", "[…]")?
            }
            _ => *root,
        };
        checks::list(&mut read, &list, &lists, defaults)?;
        lists.push(list);
    }
    Ok(read.checks)
}

/// The files that the patterns name, sorted by name. A file that several patterns name is taken once.
fn included(at: &At<'_>) -> Read<Vec<(Source, Node)>> {
    let mut paths = Vec::new();
    match at.node {
        Node::List(_) => at.list("", 1_000)?.try_for_each(|at| pattern(&at, &mut paths))?,
        _ => pattern(at, &mut paths)?,
    }
    let mut files = Vec::new();
    let mut bytes = 0;
    for path in paths {
        let (source, node) = read_file(&path)?;
        bytes += source.text.len();
        if bytes > INCLUDED_BYTES_MAX {
            return Err(at.fail(format!("the included files hold more than {INCLUDED_BYTES_MAX} bytes")));
        }
        files.push((source, node));
    }
    Ok(files)
}

fn pattern(at: &At<'_>, paths: &mut Vec<PathBuf>) -> Read<()> {
    let text = at.expanded("a path, or a list of them")?.text;
    // Only what was typed is a pattern, not the directory before it.
    let directory = glob::Pattern::escape(&at.reading.directory.to_string_lossy());
    let whole = Path::new(&directory).join(&*text).to_string_lossy().into_owned();
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::default() };
    let matches =
        glob::glob_with(&whole, options).map_err(|error| at.refuse(format!("is not a pattern: {}", error.msg)))?;
    let before = paths.len();
    for path in matches {
        let path = path.map_err(|error| at.fail(format!("cannot read `{}`", error.path().display())))?;
        if path.is_dir() || paths.contains(&path) {
            continue;
        }
        if paths.len() == INCLUDED_MAX {
            return Err(at.fail(format!("includes more than {INCLUDED_MAX} files")));
        }
        paths.push(path);
    }
    if paths.len() == before && !text.contains(['*', '?', '[']) {
        return Err(at.refuse("is no file"));
    }
    Ok(())
}

fn gate(at: &At<'_>, checks: &[Arc<Check>]) -> Read<Vec<Arc<Check>>> {
    let mut gate: Vec<Arc<Check>> = Vec::new();
    for at in at.list("a list of labels", GATE_MAX)? {
        let of_gate = at.text("text", |text| {
            let known = checks.iter().find(|check| &*check.label == text);
            known.cloned().ok_or_else(|| {
                Complaint::new("is the label of no check").nearest(text, checks.iter().map(|check| &*check.label))
            })
        })?;
        if gate.iter().any(|check| check.label == of_gate.label) {
            return Err(at.refuse("is named twice"));
        }
        if let Kind::Exec(_) = of_gate.kind {
            let complaint = Complaint::new("is an `exec` check, and a plugin does not say whether it got through");
            return Err(at.refuse(complaint.hint("name checks of other kinds, such as `tcp`")));
        }
        gate.push(of_gate);
    }
    if gate.is_empty() {
        return Err(at.fail("names no check"));
    }
    Ok(gate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_the_installed_config_is_not_beside_it() {
        let data = |path: &str| reading(Path::new(path), &|_| None).unwrap().data;
        for (path, expected) in [
            ("/etc/pingeon/pingeon.yaml", "/var/lib/pingeon"),
            ("/etc/pingeon/./second.yaml", "/var/lib/pingeon"),
            ("/etc/pingeon/conf.d/a.yaml", "/etc/pingeon/conf.d"),
            ("/etc/pingeon.yaml", "/etc"),
            ("pingeon.yaml", ""),
        ] {
            assert_eq!(data(path), Path::new(expected), "{path}");
        }
    }
}

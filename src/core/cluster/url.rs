//! Where Redis is: `redis://[user:password@]host:port[/db][?prefix=wslab]`.

use std::fmt;
use std::str::FromStr;

use super::greeting::Login;

/// Redis' own port.
const DEFAULT_PORT: u16 = 6379;
/// What keys begin with where nothing else is asked for.
const DEFAULT_PREFIX: &str = "wslab";

/// A Redis server and the room on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How to log in.
    pub login: Login,
    /// What the room's keys begin with.
    pub prefix: String,
}

/// Without the password, so that it can be told in a log.
impl fmt::Display for RedisUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "redis://[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "redis://{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for RedisUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let shape = "redis://[user:password@]host:port[/db][?prefix=wslab]";
        let rest = match url.split_once("://") {
            Some(("redis", rest)) => rest,
            Some(("rediss", _)) => {
                return Err(
                    "rediss:// needs TLS, which is not in this server; use redis:// \
                            through a tunnel"
                        .to_owned(),
                );
            }
            _ => return Err(format!("a URL like {shape}")),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (userinfo, host) = authority
            .rsplit_once('@')
            .map_or((None, authority), |(userinfo, host)| (Some(userinfo), host));
        let (host, port) = host_and_port(host).ok_or_else(|| format!("a URL like {shape}"))?;
        let mut login = Login {
            database: match database {
                "" => 0,
                number => number
                    .parse()
                    .map_err(|_| "a database is a number, as in redis://host:6379/0".to_owned())?,
            },
            ..Login::default()
        };
        if let Some(userinfo) = userinfo {
            let (user, password) = userinfo.split_once(':').unwrap_or(("", userinfo));
            login.user = (!user.is_empty()).then(|| decode(user)).transpose()?;
            login.password = Some(decode(password)?);
        }
        Ok(Self {
            host,
            port,
            login,
            prefix: prefix(query)?,
        })
    }
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => DEFAULT_PORT,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

fn prefix(query: &str) -> Result<String, String> {
    let mut prefix = DEFAULT_PREFIX.to_owned();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != "prefix" {
            return Err(format!("{name} is unknown; the only parameter is prefix"));
        }
        if !(1..=100).contains(&value.len()) {
            return Err("a prefix has 1 to 100 bytes".to_owned());
        }
        prefix = value.into_owned();
    }
    Ok(prefix)
}

/// Takes off percent-encoding, which a password with `@`, `/` or `:` in it needs. A plus stays what it is.
fn decode(text: &str) -> Result<String, String> {
    let plain = text.replace('+', "%2B");
    let mut pairs = form_urlencoded::parse(plain.as_bytes());
    match (pairs.next(), pairs.next()) {
        (Some((decoded, value)), None) if value.is_empty() && !text.contains(['=', '&']) => {
            Ok(decoded.into_owned())
        }
        (None, _) => Ok(String::new()),
        _ => Err("= and & in a password are written %3D and %26".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_told_without_their_password() {
        let url: RedisUrl = "redis://an:p%40s+s@example.org:7000/3?prefix=room%201"
            .parse()
            .expect("a URL");
        assert_eq!(url.login.user.as_deref(), Some("an"));
        assert_eq!(url.login.password.as_deref(), Some("p@s+s"));
        assert_eq!((url.login.database, url.port), (3, 7000));
        assert_eq!(url.prefix, "room 1");
        assert_eq!(url.to_string(), "redis://example.org:7000");
        let plain: RedisUrl = "redis://[::1]".parse().expect("a URL");
        assert_eq!(plain.to_string(), "redis://[::1]:6379");
        assert_eq!(plain.login, Login::default());
        let password: RedisUrl = "redis://:secret@h".parse().expect("a URL");
        assert_eq!(password.login.password.as_deref(), Some("secret"));
        assert_eq!(password.login.user, None);
    }

    #[test]
    fn what_is_no_such_url_is_refused() {
        for wrong in [
            "",
            "localhost:6379",
            "http://localhost",
            "rediss://localhost",
            "redis://",
            "redis://:6379",
            "redis://h:0",
            "redis://h:70000",
            "redis://h/x",
            "redis://h?prefix=",
            "redis://h?timeout=3",
        ] {
            assert!(wrong.parse::<RedisUrl>().is_err(), "{wrong}");
        }
    }
}

//! Where a PostgreSQL ledger is, as `LEDGER_URL` says it in the form of libpq.

use std::net::IpAddr;

use tokio_postgres::Config;
use tokio_postgres::config::Host;
use url::form_urlencoded;

/// The ledger's own schema, where the URL names none.
const SCHEMA: &str = "eko_worker";

/// Whether bytes are encrypted, and whether the server has to prove who it is. The names are libpq's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SslMode {
    /// Plain text.
    Disable,
    /// TLS where the server has it, else plain text; the server may be anybody.
    Prefer,
    /// TLS; the server may be anybody, unless `LEDGER_CA_FILE` says who signs its certificate.
    Require,
    /// TLS with a certificate that is signed by somebody who is trusted, for whatever name.
    VerifyCa,
    /// TLS with a certificate for the name in the URL.
    VerifyFull,
}

/// A server, or several of which one can be written, and a database there.
#[derive(Clone, Debug)]
pub struct Address {
    /// All but TLS. It holds the password.
    pub(super) config: Config,
    pub(super) ssl_mode: SslMode,
    /// Where the ledger's tables are.
    pub(super) schema: String,
    /// Whether the URL names the schema, by `options=-csearch_path=…`.
    pub(super) names_schema: bool,
}

/// A host of the URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The name that its certificate is for.
    pub(super) name: String,
    /// What is connected to.
    pub(super) host: Host,
    pub(super) port: u16,
}

impl Address {
    /// Reads a URL; what is wrong with it may hold its password and is not repeated.
    pub fn read(url: &str) -> Result<Self, String> {
        let wrong = || {
            "must be a URL such as postgres://user:password@host/database?sslmode=verify-full, \
             with sslmode=disable, prefer, require, verify-ca or verify-full"
                .to_owned()
        };
        let (mut ssl_mode, mut options) = (SslMode::Prefer, None);
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let mut others = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            // In libpq a + is no blank.
            let decoded = pair.replace('+', "%2B");
            let Some((key, value)) = form_urlencoded::parse(decoded.as_bytes()).next() else {
                continue;
            };
            match key.as_ref() {
                "sslmode" => ssl_mode = SslMode::read(&value).ok_or_else(wrong)?,
                "sslrootcert" => return Err("use LEDGER_CA_FILE, not sslrootcert".to_owned()),
                "sslcert" => return Err("use LEDGER_CLIENT_CERT_FILE, not sslcert".to_owned()),
                "sslkey" => return Err("use LEDGER_CLIENT_KEY_FILE, not sslkey".to_owned()),
                "options" => options = Some(value.into_owned()),
                _ => others.push(pair),
            }
        }
        let mut config: Config =
            format!("{place}?{}", others.join("&")).parse().map_err(|_| wrong())?;
        let has_database = config.get_dbname().is_some_and(|name| !name.is_empty());
        if !has_database || (config.get_hosts().is_empty() && config.get_hostaddrs().is_empty()) {
            return Err(wrong());
        }
        let (schema, options) = schema(options.as_deref().unwrap_or_default());
        // A pool such as PgBouncer refuses options, also where there are none.
        if !options.is_empty() {
            config.options(options);
        }
        if config.get_application_name().is_none() {
            config.application_name("eko-worker");
        }
        let names_schema = schema.is_some();
        let schema = schema.unwrap_or_else(|| SCHEMA.to_owned());
        Ok(Self { config, ssl_mode, schema, names_schema })
    }

    /// Whether what goes over a network may be plain text.
    pub fn may_be_plain(&self) -> bool {
        match self.ssl_mode {
            SslMode::Disable | SslMode::Prefer => !self.servers().iter().all(Endpoint::is_here),
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => false,
        }
    }

    /// Whether TLS is tried at all.
    pub fn has_tls(&self) -> bool {
        self.ssl_mode != SslMode::Disable
    }

    /// The hosts in the order in which they are tried.
    pub(super) fn servers(&self) -> Vec<Endpoint> {
        let (hosts, addresses) = (self.config.get_hosts(), self.config.get_hostaddrs());
        let ports = self.config.get_ports();
        let server = |nth: usize| {
            let address = addresses.get(nth).map(|address| Host::Tcp(address.to_string()));
            let named = hosts.get(nth);
            let name = match named.or(address.as_ref())? {
                Host::Tcp(name) => name.clone(),
                #[cfg(unix)]
                Host::Unix(path) => path.display().to_string(),
            };
            let port = ports.get(nth).or_else(|| ports.first()).copied().unwrap_or(5432);
            Some(Endpoint { name, host: address.or_else(|| named.cloned())?, port })
        };
        (0..hosts.len().max(addresses.len())).filter_map(server).collect()
    }

    /// Hosts and database, and nothing else of the URL.
    pub fn place(&self) -> String {
        let shown = |server: Endpoint| match server.host {
            Host::Tcp(_) => format!("{}:{}", server.name, server.port),
            #[cfg(unix)]
            Host::Unix(_) => server.name,
        };
        let servers: Vec<String> = self.servers().into_iter().map(shown).collect();
        let database = self.config.get_dbname().unwrap_or_default();
        format!("PostgreSQL {}/{database}", servers.join(","))
    }

    /// A text without the URL's password.
    pub(super) fn without_password(&self, text: String) -> String {
        let password = String::from_utf8_lossy(self.config.get_password().unwrap_or_default());
        if password.is_empty() { text } else { text.replace(&*password, "…") }
    }
}

impl Endpoint {
    /// Whether it is on this machine, so that nobody can listen on the way.
    fn is_here(&self) -> bool {
        match &self.host {
            Host::Tcp(name) => {
                name.eq_ignore_ascii_case("localhost")
                    || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
            #[cfg(unix)]
            Host::Unix(_) => true,
        }
    }
}

impl SslMode {
    fn read(word: &str) -> Option<Self> {
        Some(match word {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// The schema that options name by their `search_path`, and the other options.
fn schema(options: &str) -> (Option<String>, String) {
    let (mut schema, mut others) = (None, Vec::new());
    let mut words = options.split_whitespace();
    while let Some(word) = words.next() {
        let setting = match word {
            "-c" => words.next().unwrap_or_default(),
            word => word.strip_prefix("-c").or_else(|| word.strip_prefix("--")).unwrap_or(""),
        };
        match setting.split_once('=') {
            Some(("search_path", path)) => {
                let first = path.split(',').next().unwrap_or_default().trim_matches('"');
                schema = Some(first.to_owned()).filter(|name| !name.is_empty() && name != "$user");
            }
            Some(_) => others.push(format!("-c {setting}")),
            None => others.push(word.to_owned()),
        }
    }
    (schema, others.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rest: &str) -> Result<Address, String> {
        Address::read(&format!("postgres://worker:hunter2@{rest}"))
    }

    #[test]
    fn every_ssl_mode_of_libpq_is_read_and_plain_text_over_a_network_is_told() {
        for (rest, mode, may_be_plain) in [
            ("db/eko", SslMode::Prefer, true),
            ("127.0.0.1/eko", SslMode::Prefer, false),
            ("[::1]:5433/eko?sslmode=disable", SslMode::Disable, false),
            ("db/eko?sslmode=disable", SslMode::Disable, true),
            ("db/eko?sslmode=prefer", SslMode::Prefer, true),
            ("db/eko?sslmode=require", SslMode::Require, false),
            ("db/eko?connect_timeout=3&sslmode=verify-ca", SslMode::VerifyCa, false),
            ("db/eko?sslmode=verify%2Dfull", SslMode::VerifyFull, false),
            ("localhost,db/eko", SslMode::Prefer, true),
            ("localhost/eko?hostaddr=10.0.0.1", SslMode::Prefer, true),
            ("%2Fvar%2Frun%2Fpostgresql/eko", SslMode::Prefer, false),
        ] {
            let address = read(rest).unwrap_or_else(|why| panic!("{rest}: {why}"));
            assert_eq!((address.ssl_mode, address.may_be_plain()), (mode, may_be_plain), "{rest}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_without_its_password() {
        for rest in [
            "db",
            "db/eko?sslmode=allow",
            "db/eko?sslmode=",
            "db/eko?hunter2=x",
            "db/eko?sslrootcert=/hunter2",
            "db:x/eko",
        ] {
            let why = read(rest).unwrap_err();
            assert!(!why.contains("hunter2"), "{rest}: {why}");
        }
        assert!(read("db/eko?sslrootcert=x").unwrap_err().contains("LEDGER_CA_FILE"));
    }

    #[test]
    fn the_schema_is_the_workers_own_unless_the_url_names_one() {
        for (options, schema, others) in [
            ("", None, ""),
            ("-csearch_path=mine", Some("mine"), ""),
            ("-c search_path=\"mine\",public -c geqo=off", Some("mine"), "-c geqo=off"),
            ("--search_path=mine --geqo=off", Some("mine"), "-c geqo=off"),
            ("-csearch_path=\"$user\",public", None, ""),
        ] {
            let (found, left) = super::schema(options);
            assert_eq!((found.as_deref(), left.as_str()), (schema, others), "{options}");
        }
        let address = read("db/eko?options=-csearch_path%3Dmine&sslmode=require").unwrap();
        assert_eq!((address.schema.as_str(), address.config.get_options()), ("mine", None));
        assert_eq!(read("db/eko?sslmode=require").unwrap().schema, "eko_worker");
    }

    #[test]
    fn each_host_has_its_port_and_its_address() {
        let hosts = |rest| -> Vec<String> {
            let shown =
                |server: Endpoint| format!("{}={:?}:{}", server.name, server.host, server.port);
            read(rest).unwrap().servers().into_iter().map(shown).collect()
        };
        assert_eq!(hosts("a:1,b:2/eko"), ["a=Tcp(\"a\"):1", "b=Tcp(\"b\"):2"]);
        assert_eq!(hosts("a/eko?hostaddr=10.0.0.1"), ["a=Tcp(\"10.0.0.1\"):5432"]);
        assert_eq!(read("a,b:2/eko").unwrap().place(), "PostgreSQL a:5432,b:2/eko");
    }
}

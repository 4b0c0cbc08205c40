//! Name resolution without a thread per lookup: `getaddrinfo` blocks one for as long as the name
//! servers do not respond, and names that never resolve would occupy all of them.
//!
//! A name is looked up in the hosts file of this machine, then at its name servers. Names are
//! absolute: the search domains of `/etc/resolv.conf` do not apply, so that the name of a webhook
//! means the same at each relay. There is no cache: the name servers have one, and responses of up
//! to 64 KiB each would be a cheap way to fill ours.

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{NameServerConfig, ResolveHosts, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
    system_conf::parse_resolv_conf,
};
use sealpost_proto::limits::{ADDRESSES_RESOLVED_MAX, NAME_LOOKUP_TIMEOUT, NAME_QUERY_TIMEOUT};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use tokio::time::timeout;

/// Resolver with the configuration of this machine. It notices when the configuration changes, for
/// example because the network starts after the relay.
pub(crate) struct SystemResolver {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    current: Mutex<Option<(Version, Arc<Resolver>)>>,
}

/// Times of the last change of both files.
type Version = [Option<SystemTime>; 2];

impl SystemResolver {
    pub(crate) fn new(resolv_conf: &Path, hosts: &Path) -> Self {
        Self {
            resolv_conf: resolv_conf.to_owned(),
            hosts: hosts.to_owned(),
            current: Mutex::default(),
        }
    }

    /// Returns the addresses of a name, none if it does not resolve.
    pub(crate) async fn resolve(&self, host: &str) -> Vec<IpAddr> {
        let Some(resolver) = self.load() else {
            return Vec::new();
        };
        resolver.resolve(host).await
    }

    /// Returns the resolver for the present configuration.
    fn load(&self) -> Option<Arc<Resolver>> {
        let modified = |path| fs::metadata(path).and_then(|found| found.modified()).ok();
        let version = [modified(&self.resolv_conf), modified(&self.hosts)];
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((loaded, resolver)) = &*current
            && *loaded == version
        {
            return Some(Arc::clone(resolver));
        }
        let servers = read_name_servers(&self.resolv_conf);
        let resolver = Arc::new(Resolver::new(servers, read_hosts(&self.hosts))?);
        *current = Some((version, Arc::clone(&resolver)));
        Some(resolver)
    }
}

/// Reads the name servers. Without any, this machine's own is used, as the C library does.
fn read_name_servers(path: &Path) -> Vec<NameServerConfig> {
    let text = fs::read(path).unwrap_or_default();
    match parse_resolv_conf(text) {
        Ok((config, _)) => config.into_parts().2,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "no name servers are configured");
            vec![NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into())]
        }
    }
}

fn read_hosts(path: &Path) -> Hosts {
    let mut hosts = Hosts::default();
    let read = fs::File::open(path).and_then(|file| hosts.read_hosts_conf(file));
    if let Err(error) = read {
        tracing::warn!(%error, path = %path.display(), "the hosts file cannot be read");
    }
    hosts
}

struct Resolver {
    hosts: Hosts,
    dns: TokioResolver,
}

impl Resolver {
    fn new(servers: Vec<NameServerConfig>, hosts: Hosts) -> Option<Self> {
        let config = ResolverConfig::from_name_servers(servers);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.timeout = NAME_QUERY_TIMEOUT;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let dns = builder.build();
        let failed = |error| tracing::error!(%error, "names cannot be resolved");
        let dns = dns.map_err(failed).ok()?;
        Some(Self { hosts, dns })
    }

    async fn resolve(&self, host: &str) -> Vec<IpAddr> {
        let Ok(mut name) = Name::from_ascii(host) else {
            return Vec::new();
        };
        name.set_fqdn(true);
        let [ipv4, ipv6] =
            [RecordType::A, RecordType::AAAA].map(|kind| self.find_host(&name, kind));
        if !ipv4.is_empty() || !ipv6.is_empty() {
            return interleave(ipv4, ipv6);
        }
        let (ipv4, ipv6) = tokio::join!(
            self.query(&name, RecordType::A),
            self.query(&name, RecordType::AAAA)
        );
        interleave(ipv4, ipv6)
    }

    fn find_host(&self, name: &Name, kind: RecordType) -> Vec<IpAddr> {
        let query = Query::query(name.clone(), kind);
        let found = self.hosts.lookup_static_host(&query);
        found.map_or_else(Vec::new, |found| {
            let addresses = found.answers().iter();
            addresses
                .filter_map(|record| record.data.ip_addr())
                .collect()
        })
    }

    /// Asks the name servers. Each address family gets the full timeout, so that a server that
    /// ignores queries for one does not hide the other, and a large response is reduced to a few
    /// addresses before the other one arrives.
    async fn query(&self, name: &Name, kind: RecordType) -> Vec<IpAddr> {
        let lookup = self.dns.lookup(name.clone(), kind);
        match timeout(NAME_LOOKUP_TIMEOUT, lookup).await {
            Ok(Ok(found)) => {
                let addresses = found.answers().iter();
                let addresses = addresses.filter_map(|record| record.data.ip_addr());
                addresses.take(ADDRESSES_RESOLVED_MAX).collect()
            }
            Ok(Err(_)) | Err(_) => Vec::new(),
        }
    }
}

/// Alternates between the families, so that both are tried when one has no route.
fn interleave(ipv4: Vec<IpAddr>, ipv6: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut interleaved = Vec::with_capacity(ipv4.len() + ipv6.len());
    let (mut ipv4, mut ipv6) = (ipv4.into_iter(), ipv6.into_iter());
    loop {
        let pair = [ipv4.next(), ipv6.next()];
        if pair == [None, None] {
            return interleaved;
        }
        interleaved.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "the tests measure the time of lookups"
)]
mod tests;

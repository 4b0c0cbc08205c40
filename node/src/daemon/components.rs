//! Components of a running node.

use super::{
    Database, HomeRelay,
    backup::schedule::BackupStatus,
    ingest::Ingest,
    transfer::{EarlyUploads, TransferContext},
    unknown_mailboxes::UnknownMailboxes,
    worker::Worker,
};
use crate::{files::Files, identity::NodeIdentity, progress::Progress};
use sealpost_service::{SharedClock, Shutdown};
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

/// Components of a running node. Each task and each handler receives only the ones that it needs.
#[derive(Clone)]
pub(crate) struct NodeComponents {
    pub(crate) identity: Arc<NodeIdentity>,
    pub(crate) database: Database,
    pub(crate) relay: Arc<HomeRelay>,
    /// Sealed files on disk.
    pub(crate) files: Files,
    pub(crate) progress: Arc<Progress>,
    pub(crate) early_uploads: Arc<EarlyUploads>,
    pub(crate) run_info: Arc<RunInfo>,
    /// Outcome of the scheduled backups.
    pub(crate) backups: Arc<BackupStatus>,
    pub(crate) unknown_mailboxes: Arc<UnknownMailboxes>,
    pub(crate) clock: SharedClock,
    pub(crate) shutdown: Shutdown,
}

/// Facts about this run of the node that do not change.
#[derive(Debug, Clone)]
pub(crate) struct RunInfo {
    /// Data directory.
    pub(crate) directory: PathBuf,
    /// Address of the local API.
    pub(crate) address: SocketAddr,
    /// URL at which the relay calls this node, unless the node polls the relay.
    pub(crate) webhook_url: Option<String>,
    /// Maximum size of all files of one message in bytes of plaintext.
    pub(crate) message_files_bytes_max: u64,
}

impl NodeComponents {
    pub(super) fn worker(&self) -> Worker {
        Worker::new(Arc::clone(&self.clock), self.shutdown.clone())
    }

    pub(crate) fn ingest(&self) -> Ingest {
        Ingest {
            database: self.database.clone(),
            relay: Arc::clone(&self.relay),
            identity: Arc::clone(&self.identity),
        }
    }

    pub(super) fn transfers(&self) -> Arc<TransferContext> {
        Arc::new(TransferContext {
            database: self.database.clone(),
            relay: Arc::clone(&self.relay),
            files: self.files.clone(),
            progress: Arc::clone(&self.progress),
            early_uploads: Arc::clone(&self.early_uploads),
        })
    }
}

#[cfg(test)]
impl NodeComponents {
    /// Creates the components of a registered node with a database and files in `directory`.
    pub(crate) async fn for_test(
        directory: &std::path::Path,
        relay: sealpost_proto::Origin,
        clock: sealpost_service::ManualClock,
    ) -> Self {
        use super::home_relay::Registration;
        use crate::store::Store;
        use sealpost_proto::limits::MESSAGE_FILES_BYTES_MAX;
        use sealpost_relay_client::{RelayClient, build_http_client};

        let path = directory.join("node.db");
        let sql =
            sealpost_sqlite::Database::open(&path, crate::store::MIGRATIONS, crate::store::OPTIONS)
                .unwrap();
        let data_key = sealpost_e2ee::vault::DataKey::generate(&mut sealpost_service::entropy());
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let clock: SharedClock = Arc::new(clock);
        let store = Store::new(sql, Arc::new(data_key));
        let http = build_http_client(&[]).unwrap();
        let client =
            RelayClient::new(relay.clone(), key, Arc::clone(&clock), http).with_request_limit();
        let database = Database::new(store, Arc::clone(&clock), client.clone(), 0);
        let home_relay = HomeRelay::new(client, relay.clone(), database.clone());
        home_relay.set_registration(Registration::Done);
        let home_relay = Arc::new(home_relay);
        Self {
            identity: Arc::new(NodeIdentity {
                relay,
                ..crate::testing::TestNode::new("Acme", 1).identity
            }),
            unknown_mailboxes: Arc::new(UnknownMailboxes::new(
                database.clone(),
                Arc::clone(&home_relay),
            )),
            relay: home_relay,
            files: Files::open(directory.join("files")).unwrap(),
            progress: Arc::default(),
            early_uploads: Arc::new(EarlyUploads::new(database.clone(), MESSAGE_FILES_BYTES_MAX)),
            database,
            run_info: Arc::new(RunInfo {
                directory: directory.to_owned(),
                address: ([127, 0, 0, 1], 1).into(),
                webhook_url: None,
                message_files_bytes_max: MESSAGE_FILES_BYTES_MAX,
            }),
            backups: Arc::default(),
            clock,
            shutdown: Shutdown::new(),
        }
    }
}

use super::{ATTACK_TIME, PreparedAttack, connect};
use crate::{
    account::{Account, attacker_address},
    honest::upload_blob,
    testbed::Testbed,
};
use sealpost_proto::{
    b64,
    limits::{PART_BYTES_MAX, PART_TRANSFERS_PER_ACCOUNT_MAX},
    wire::FETCH_TOKEN_HEADER,
};
use sealpost_signatures::ContentDigest;
use tokio::{io::AsyncWriteExt as _, task::JoinSet, time::sleep};

const NETWORK: u8 = 7;
const ACCOUNTS: usize = 16;
const RECEIVE_BUFFER_BYTES: u32 = 4 * 1024;

/// Each account starts as many downloads as it may, and reads none of them.
pub(super) async fn prepare(testbed: &Testbed) -> anyhow::Result<PreparedAttack> {
    let authority = testbed.relay.authority().to_owned();
    let owner = Account::with_pull(&testbed.relay, attacker_address(NETWORK, ACCOUNTS)).await?;
    let (blob, token) = upload_blob(&owner, PART_BYTES_MAX).await?;
    let target = format!("/v1/blobs/{}/parts/0", blob.id);
    let token = format!("{FETCH_TOKEN_HEADER}: {}\r\n", b64::encode(token.expose()));
    let mut requests = Vec::new();
    for number in 0..ACCOUNTS {
        let account = Account::with_pull(&testbed.relay, attacker_address(NETWORK, number)).await?;
        let session = account.sign_in().await?;
        for _ in 0..PART_TRANSFERS_PER_ACCOUNT_MAX {
            let digest = ContentDigest::of(b"");
            let request = account.sign_with_session(&session, "GET", &target, &digest);
            requests.push((account.source, request.head(0, &token)));
        }
    }
    Ok(Box::pin(async move {
        let mut held = JoinSet::new();
        for (source, head) in requests {
            let authority = authority.clone();
            held.spawn(async move {
                let mut stream = connect(&authority, source, Some(RECEIVE_BUFFER_BYTES)).await?;
                stream.write_all(&head).await?;
                std::future::pending::<anyhow::Result<()>>().await
            });
        }
        sleep(ATTACK_TIME).await;
        Ok(Vec::new())
    }))
}

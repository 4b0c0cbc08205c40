use crate::{B64, ids::BlobId, time::Timestamp};
use serde::{Deserialize, Serialize};

/// `POST /v1/blobs`: announces an upload. The same again answers as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateBlob {
    /// Made by the node.
    pub id: BlobId,
    /// Size of the whole blob, its head included.
    #[cfg_attr(feature = "openapi", schema(example = 2_000_000))]
    pub size_bytes: u64,
    /// SHA-256 of the fetch token.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Bytes32))]
    pub fetch_token_hash: B64,
    /// When its life shall end; a later time than the longest life is lowered.
    pub expires_at: Timestamp,
}

/// Whether a blob can be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum BlobState {
    /// Parts are missing, or it was not completed yet.
    Uploading,
    /// All parts are on disk.
    Complete,
}

/// `GET /v1/blobs/{id}` and the answer to every change of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Blob {
    /// Which.
    pub id: BlobId,
    /// Whether it can be fetched.
    pub state: BlobState,
    /// Size of the whole blob.
    #[cfg_attr(feature = "openapi", schema(example = 2_000_000))]
    pub size_bytes: u64,
    /// How many parts it has.
    #[cfg_attr(feature = "openapi", schema(example = 1))]
    pub parts: u32,
    /// The numbers of the parts that are on disk, ascending.
    #[cfg_attr(feature = "openapi", schema(example = json!([0])))]
    pub present: Vec<u32>,
    /// When its life ends.
    pub expires_at: Timestamp,
}

/// `POST /v1/blobs/{id}/complete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CompleteBlob {
    /// SHA-256 over the SHA-256 of each part in order.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Bytes32))]
    pub digest: B64,
}

/// `PATCH /v1/blobs/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExtendBlob {
    /// The new end of its life; an earlier one than now set is ignored.
    pub expires_at: Timestamp,
}

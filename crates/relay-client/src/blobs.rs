use crate::{
    ClientError, RelayClient,
    transport::{Call, ProgressCallback, ResponseBody, Signing},
};
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use sealpost_proto::{
    BlobId, BlobRef, FetchToken, b64,
    limits::{PART_BYTES_MAX, PART_TIMEOUT},
    wire::{Blob, CompleteBlob, CreateBlob, ExtendBlob, FETCH_TOKEN_HEADER},
};
use sealpost_signatures::ContentDigest;

impl RelayClient {
    /// `POST /v1/blobs`: announces an upload; repeating it returns the same response.
    ///
    /// # Errors
    /// `conflict`, `too_large`, `quota_exceeded`.
    pub async fn create_blob(&self, blob: &CreateBlob) -> Result<Blob, ClientError> {
        self.call_json(&Call::new(Method::POST, "/v1/blobs", Signing::Session).json(blob)?)
            .await
    }

    /// `PUT /v1/blobs/{id}/parts/{n}`: uploads a part whose SHA-256 is `digest`. Repeating it
    /// changes nothing. `progress` receives the number of transferred bytes.
    ///
    /// # Errors
    /// `part_invalid`, `conflict`, `not_found`.
    pub async fn upload_part(
        &self,
        id: BlobId,
        number: u32,
        part: Bytes,
        digest: ContentDigest,
        progress: ProgressCallback,
    ) -> Result<(), ClientError> {
        let mut call = Call::new(
            Method::PUT,
            format!("/v1/blobs/{id}/parts/{number}"),
            Signing::Session,
        );
        call.headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        call.body = part;
        call.digest = Some(digest);
        call.progress = Some(progress);
        call.timeout = PART_TIMEOUT;
        self.call(&call).await.map(|_| ())
    }

    /// `GET /v1/blobs/{id}`: fetches the state of one of the account's blobs with its stored parts,
    /// so that an upload can resume.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn fetch_blob(&self, id: BlobId) -> Result<Blob, ClientError> {
        self.call_json(&Call::get(format!("/v1/blobs/{id}"))).await
    }

    /// `POST /v1/blobs/{id}/complete`: completes an upload after its last part.
    ///
    /// # Errors
    /// `blob_incomplete`.
    pub async fn complete_blob(
        &self,
        id: BlobId,
        digest: &CompleteBlob,
    ) -> Result<Blob, ClientError> {
        let call = Call::new(
            Method::POST,
            format!("/v1/blobs/{id}/complete"),
            Signing::Session,
        )
        .json(digest)?;
        self.call_json(&call).await
    }

    /// `PATCH /v1/blobs/{id}`: extends the lifetime of a blob.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn extend_blob(
        &self,
        id: BlobId,
        extension: &ExtendBlob,
    ) -> Result<Blob, ClientError> {
        let call = Call::new(Method::PATCH, format!("/v1/blobs/{id}"), Signing::Session);
        self.call_json(&call.json(extension)?.recurring()).await
    }

    /// `DELETE /v1/blobs/{id}`: deletes a blob; succeeds if it does not exist.
    ///
    /// # Errors
    /// [`ClientError`] if the request fails.
    pub async fn delete_blob(&self, id: BlobId) -> Result<(), ClientError> {
        self.call(&Call::new(
            Method::DELETE,
            format!("/v1/blobs/{id}"),
            Signing::Session,
        ))
        .await
        .map(|_| ())
    }

    /// `GET /v1/blobs/{id}/parts/{n}`: downloads one part, at most
    /// [`PART_BYTES_MAX`], as a stream. `progress` receives the number of transferred bytes.
    ///
    /// # Errors
    /// `not_found` for an unknown blob, a wrong token or an incomplete blob alike;
    /// `foreign_relay_unsupported`.
    pub async fn fetch_part(
        &self,
        blob: &BlobRef,
        number: u32,
        token: &FetchToken,
        progress: ProgressCallback,
    ) -> Result<ResponseBody, ClientError> {
        let target = self.path_at(&blob.relay, &format!("blobs/{}/parts/{number}", blob.id));
        let mut call =
            Call::get(target).header(FETCH_TOKEN_HEADER, &b64::encode(token.expose()))?;
        call.timeout = PART_TIMEOUT;
        call.response_bytes_max = PART_BYTES_MAX;
        call.progress = Some(progress);
        self.call_streaming(&call).await
    }
}

//! ACME against a certificate authority in this process. It implements orders of RFC 8555 without
//! checking signatures, and the validation of RFC 8737.

use super::*;
use crate::SystemClock;
use axum::{
    Json,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use hyper::StatusCode;
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SignatureAlgorithm,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sealpost_proto::b64;
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;
use x509_cert::{der::Decode as _, request::CertReq};

const NAME: &str = "relay.example";
const TOKEN: &str = "a-token-of-the-authority";

/// Certificate authority that validates every name at one address.
struct Authority {
    url: String,
    validated_address: SocketAddr,
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    order: Mutex<OrderAtAuthority>,
}

#[derive(Default)]
struct OrderAtAuthority {
    accounts: usize,
    thumbprint: String,
    status: &'static str,
    chain: String,
}

impl Authority {
    async fn start(validated_address: SocketAddr) -> Arc<Self> {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let issuer = Issuer::new(params, key);
        let authority = Arc::new(Self {
            url,
            validated_address,
            issuer,
            certificate,
            order: Mutex::default(),
        });
        let router = Router::new()
            .fallback(handle)
            .with_state(Arc::clone(&authority));
        tokio::spawn(serve(
            socket,
            router,
            ListenerLimits::default(),
            Shutdown::new(),
        ));
        authority
    }

    fn directory(&self) -> Value {
        let url = |path: &str| format!("{}{path}", self.url);
        json!({ "newNonce": url("/nonce"), "newAccount": url("/account"), "newOrder": url("/order"),
            "revokeCert": url("/revoke"), "keyChange": url("/key") })
    }

    fn order(&self) -> Value {
        let url = |path: &str| format!("{}{path}", self.url);
        let status = self.order.lock().unwrap().status;
        let certificate = (status == "valid").then(|| url("/certificate"));
        json!({
            "status": status,
            "identifiers": [{ "type": "dns", "value": NAME }],
            "authorizations": [url("/authorization")],
            "finalize": url("/finalize"),
            "certificate": certificate,
        })
    }

    fn challenge(&self) -> Value {
        json!({
            "type": "tls-alpn-01",
            "url": format!("{}/challenge", self.url),
            "token": TOKEN,
            "status": "pending",
        })
    }

    /// Connects to the name and checks the challenge certificate (RFC 8737, section 3).
    async fn validate(&self) -> bool {
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptAll))
                .with_no_client_auth();
        config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
        let stream = TcpStream::connect(self.validated_address).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let Ok(stream) = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
        else {
            return false;
        };
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        let certificate = x509_cert::Certificate::from_der(&certificate).unwrap();
        let authorization = format!("{TOKEN}.{}", self.order.lock().unwrap().thumbprint);
        let expected = [
            b"\x04\x20",
            ring::digest::digest(&ring::digest::SHA256, authorization.as_bytes()).as_ref(),
        ]
        .concat();
        let extensions = certificate.tbs_certificate().extensions().unwrap();
        stream.get_ref().1.alpn_protocol() == Some(b"acme-tls/1")
            && extensions.iter().any(|extension| {
                extension.critical
                    && extension.extn_id.to_string() == "1.3.6.1.5.5.7.1.31"
                    && extension.extn_value.as_bytes() == expected
            })
    }

    fn issue(&self, csr: &str) {
        let request = CertReq::from_der(&b64::parse(csr).unwrap()).unwrap();
        let key = RequestedKey(
            request
                .info
                .public_key
                .subject_public_key
                .raw_bytes()
                .to_vec(),
        );
        let issued = CertificateParams::new(vec![NAME.to_owned()])
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        let mut order = self.order.lock().unwrap();
        order.chain = format!("{}{}", issued.pem(), self.certificate.pem());
        order.status = "valid";
    }
}

struct RequestedKey(Vec<u8>);

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

async fn handle(State(authority): State<Arc<Authority>>, uri: hyper::Uri, body: Bytes) -> Response {
    let part = |name: &str| -> Value {
        let jws: Value = serde_json::from_slice(&body).unwrap_or_default();
        let part = jws[name]
            .as_str()
            .and_then(|part| b64::parse(part).ok())
            .unwrap_or_default();
        serde_json::from_slice(&part).unwrap_or_default()
    };
    let response = match uri.path() {
        "/directory" => Json(authority.directory()).into_response(),
        "/account" => {
            let jwk = &part("protected")["jwk"];
            let canonical = format!(
                r#"{{"crv":{},"kty":{},"x":{},"y":{}}}"#,
                jwk["crv"], jwk["kty"], jwk["x"], jwk["y"]
            );
            let mut order = authority.order.lock().unwrap();
            order.accounts += 1;
            order.thumbprint = b64::encode(
                ring::digest::digest(&ring::digest::SHA256, canonical.as_bytes()).as_ref(),
            );
            created(&authority, "/account/1", json!({ "status": "valid" }))
        }
        "/order" => {
            authority.order.lock().unwrap().status = "pending";
            created(&authority, "/order/1", authority.order())
        }
        "/order/1" => Json(authority.order()).into_response(),
        "/authorization" => Json(
            json!({ "identifier": { "type": "dns", "value": NAME }, "status": "pending",
            "challenges": [authority.challenge()] }),
        )
        .into_response(),
        "/challenge" => {
            let is_valid = authority.validate().await;
            authority.order.lock().unwrap().status = if is_valid { "ready" } else { "invalid" };
            Json(authority.challenge()).into_response()
        }
        "/finalize" => {
            authority.issue(part("payload")["csr"].as_str().unwrap());
            Json(authority.order()).into_response()
        }
        "/certificate" => authority
            .order
            .lock()
            .unwrap()
            .chain
            .clone()
            .into_response(),
        _ => ().into_response(),
    };
    ([("replay-nonce", "once")], response).into_response()
}

fn created(authority: &Authority, path: &str, body: Value) -> Response {
    (
        StatusCode::CREATED,
        [("location", format!("{}{path}", authority.url))],
        Json(body),
    )
        .into_response()
}

/// Accepts every certificate, as an authority has to before it checks the content.
#[derive(Debug)]
struct AcceptAll;

impl ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn order(authority: &Authority, directory: &tempfile::TempDir) -> AcmeOrder {
    AcmeOrder {
        names: vec![NAME.to_owned()],
        contact: vec!["mailto:ops@relay.example".to_owned()],
        directory: format!("{}/directory", authority.url),
        storage_dir: directory.path().join("acme"),
    }
}

/// Binds the endpoint first, because the authority needs its address.
async fn bind() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn ordered_certificates_are_stored() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, address) = bind().await;
    let authority = Authority::start(address).await;
    let certificates = AcmeCertificates::open(order(&authority, &directory)).unwrap();
    let tls = Tls::with_acme(&certificates).unwrap();
    tokio::spawn(
        Listener::default()
            .with_tls(Some(tls))
            .serve(socket, hello(), Shutdown::new()),
    );
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let connect = async || {
        let stream = TcpStream::connect(address).await.unwrap();
        connector
            .connect(ServerName::try_from(NAME).unwrap(), stream)
            .await
    };
    assert!(connect().await.is_err(), "there is no certificate yet");
    timeout(LONG_TIMEOUT, certificates.order_certificate())
        .await
        .unwrap()
        .unwrap();
    let mut stream = connect().await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert_eq!(
        fs::metadata(directory.path().join("acme"))
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
    for file in fs::read_dir(directory.path().join("acme")).unwrap() {
        assert_eq!(
            file.unwrap().metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let again = AcmeCertificates::open(order(&authority, &directory)).unwrap();
    assert!(!again.is_due(&SystemClock), "a restart orders nothing");
    timeout(LONG_TIMEOUT, again.order_certificate())
        .await
        .unwrap()
        .expect_err("the endpoint uses other certificates");
    assert_eq!(
        authority.order.lock().unwrap().accounts,
        1,
        "the account is reused"
    );
}

#[tokio::test]
async fn failed_validation_yields_no_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, address) = bind().await;
    let authority = Authority::start(address).await;
    let certificates = AcmeCertificates::open(order(&authority, &directory)).unwrap();
    // The endpoint of the name has other certificates.
    let tls =
        Tls::with_acme(&AcmeCertificates::open(order(&authority, &directory)).unwrap()).unwrap();
    tokio::spawn(
        Listener::default()
            .with_tls(Some(tls))
            .serve(socket, hello(), Shutdown::new()),
    );
    let error = timeout(LONG_TIMEOUT, certificates.order_certificate())
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(error, AcmeError::NotValidated { .. }) && error.to_string().contains(NAME),
        "{error}"
    );
    assert!(certificates.is_due(&SystemClock));
}

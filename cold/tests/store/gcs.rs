//! What Google Cloud Storage is asked, answered by SeaweedFS: their requests are those of S3 but for two headers. No
//! server of its own does what it does with them.

use async_trait::async_trait;
use hyper::header::{AUTHORIZATION, HeaderValue, IF_NONE_MATCH};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use object_store::gcp::GoogleCloudStorageBuilder;

/// Who asks for nothing but what it has to.
pub fn builder(endpoint: &str) -> GoogleCloudStorageBuilder {
    let account = format!(
        r#"{{"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": true, "gcs_base_url": "{endpoint}"}}"#
    );
    GoogleCloudStorageBuilder::new()
        .with_service_account_key(account)
        .with_http_connector(AsS3)
        .with_url("gs://bucket/a/prefix")
}

#[derive(Debug)]
struct AsS3;

impl HttpConnector for AsS3 {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Translated(client)))
    }
}

#[derive(Debug)]
struct Translated(HttpClient);

#[async_trait]
impl HttpService for Translated {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let headers = request.headers_mut();
        headers.remove(AUTHORIZATION);
        if let Some(generation) = headers.remove("x-goog-if-generation-match") {
            assert_eq!(generation, "0", "only where there is none");
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        self.0.execute(request).await
    }
}

//! What is asked of an identity provider, and the check of what it says. All of it is the crate `openidconnect`'s work; here
//! stands what this suite asks it for.

use std::borrow::Cow;
use std::error::Error;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClientAuthMethod, CoreErrorResponseType,
    CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata,
    CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AccessToken, AdditionalClaims, AuthType, AuthenticationContextClass, AuthorizationCode, Client, ClientId,
    ClientSecret, CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest,
    HttpResponse, IdTokenFields, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, Scope, StandardErrorResponse, StandardTokenResponse, SubjectIdentifier, TokenResponse as _,
    UserInfoClaims,
};
use pve_cfs::{Cfs, Datacenter};
use pve_fetch::FetchError;
use pve_schema::{Context, list};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::state::Begun;
use super::{OpenIdError, Return, is_on};
use crate::domains::Realm;

/// What the provider says about a user, by claim.
pub(super) type Claims = Map<String, Value>;

/// How long one question may take; all of them together have until the deadline of the call.
const DEADLINE: Duration = Duration::from_secs(10);

/// Scopes besides `openid` where the realm names none (reference 02 §5.3).
const DEFAULT_SCOPES: &str = "email profile";

/// All claims that the standard does not name.
#[derive(Debug, Serialize, Deserialize)]
struct Others {
    #[serde(flatten)]
    all: Claims,
}

impl AdditionalClaims for Others {}

type IdFields = IdTokenFields<
    Others,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

/// The crate's own kind of client, with all claims.
type OpenIdClient = Client<
    Others,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<IdFields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// A provider that said what it offers.
pub(super) struct Provider<'a> {
    realm: &'a Realm,
    http: Http,
    client: OpenIdClient,
}

/// Who asks, and until when.
struct Http {
    client: pve_fetch::Client,
    until: Instant,
}

impl Http {
    fn send(&self, request: HttpRequest) -> Result<HttpResponse, FetchError> {
        let left = self.until.saturating_duration_since(Instant::now());
        self.client.send_within(request, left.min(DEADLINE))
    }
}

impl<'a> Provider<'a> {
    /// Asks a realm's provider what it offers, and for its keys. Nothing is asked of it after `until`.
    pub(super) fn discover(
        context: &Context,
        name: &str,
        realm: &'a Realm,
        until: Instant,
    ) -> Result<Self, OpenIdError> {
        let wrong = |key: &'static str, what: String| OpenIdError::Option {
            realm: name.to_owned(),
            key,
            what,
        };
        let required = |key| realm.option(key).ok_or_else(|| wrong(key, "is missing".to_owned()));
        let issuer = IssuerUrl::new(required("issuer-url")?.to_owned())
            .map_err(|error| wrong("issuer-url", format!("is no URL - {error}")))?;
        let id = ClientId::new(required("client-id")?.to_owned());
        let secret = realm.option("client-key").map(|key| ClientSecret::new(key.to_owned()));

        let datacenter = Datacenter::read(&Cfs::new(context)).map_err(|error| OpenIdError::Access(error.into()))?;
        let client = pve_fetch::Client::new(&pve_fetch::Settings {
            deadline: DEADLINE,
            proxy: datacenter.text("http_proxy").map(str::to_owned),
            ..pve_fetch::Settings::default()
        })
        .map_err(OpenIdError::Proxy)?;
        let http = Http { client, until };
        let metadata = CoreProviderMetadata::discover(&issuer, &|request| http.send(request))
            .map_err(|error| OpenIdError::Discovery(told(&error)))?;
        let auth_type = auth_type(&metadata);
        let client = OpenIdClient::from_provider_metadata(metadata, id, secret).set_auth_type(auth_type);
        Ok(Self { realm, http, client })
    }

    /// Where to send a browser, and what to keep of it. `state` makes the text that comes back with the browser.
    pub(super) fn auth_url(
        &self,
        redirect_url: &str,
        now: i64,
        network: Ipv6Addr,
        state: impl FnOnce(&str) -> String,
    ) -> Result<(String, Begun), OpenIdError> {
        let redirect_url = redirect(redirect_url)?;
        let csrf_token = CsrfToken::new_random();
        let state = CsrfToken::new(state(csrf_token.secret()));
        let (challenge, pkce_verifier) = PkceCodeChallenge::new_random_sha256();
        let scopes = self.realm.option("scopes").unwrap_or(DEFAULT_SCOPES);
        let mut request = self
            .client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || state,
                Nonce::new_random,
            )
            .set_redirect_uri(Cow::Owned(redirect_url))
            .set_display(CoreAuthDisplay::Page)
            .set_pkce_challenge(challenge)
            .add_scopes(own_scopes(scopes).map(|scope| Scope::new(scope.to_owned())));
        if let Some(prompt) = self.realm.option("prompt") {
            request = request.add_extra_param("prompt", prompt.to_owned());
        }
        for value in list::split(self.realm.option("acr-values").unwrap_or_default()) {
            request = request.add_auth_context_value(AuthenticationContextClass::new(value.to_owned()));
        }
        let (url, _, nonce) = request.url();
        let begun = Begun {
            csrf_token: csrf_token.secret().clone(),
            nonce: nonce.secret().clone(),
            pkce_verifier: pkce_verifier.secret().clone(),
            ctime: now,
            network: Some(network),
        };
        Ok((url.into(), begun))
    }

    /// What the provider says about who came back, checked.
    pub(super) fn claims(&self, back: &Return<'_>, begun: Begun, now: i64) -> Result<Claims, OpenIdError> {
        let redirect_url = redirect(back.redirect_url)?;
        let failed = |error: &dyn Error| OpenIdError::Token(told(error));
        let response = self
            .client
            .exchange_code(AuthorizationCode::new(back.code.to_owned()))
            .map_err(|error| failed(&error))?
            .set_pkce_verifier(PkceCodeVerifier::new(begun.pkce_verifier))
            .set_redirect_uri(Cow::Owned(redirect_url))
            .request(&|request| self.http.send(request))
            .map_err(|error| failed(&error))?;
        let token = response
            .id_token()
            .ok_or_else(|| OpenIdError::Token("the answer has none".to_owned()))?;
        let audiences: Vec<String> = list::split(self.realm.option("audiences").unwrap_or_default())
            .into_iter()
            .map(str::to_owned)
            .collect();
        let verifier = self
            .client
            .id_token_verifier()
            .set_other_audience_verifier_fn(move |audience| audiences.contains(audience))
            .set_time_fn(move || openid_time(now));
        let verified = token
            .claims(&verifier, &Nonce::new(begun.nonce))
            .map_err(|error| OpenIdError::Verification(told(&error)))?;
        let mut claims = Claims::new();
        if is_on(self.realm, "query-userinfo", true) {
            claims = self.user_info(response.access_token(), verified.subject())?;
        }
        claims.extend(object(verified));
        Ok(claims)
    }

    /// What the provider says besides, for the holder of the access token; nothing, if it offers no such place.
    fn user_info(&self, token: &AccessToken, subject: &SubjectIdentifier) -> Result<Claims, OpenIdError> {
        // The crate relies on it when it makes a header of the token.
        if !token
            .secret()
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic())
        {
            return Err(OpenIdError::UserInfo("the access token is none".to_owned()));
        }
        let Ok(request) = self.client.user_info(token.clone(), Some(subject.clone())) else {
            return Ok(Claims::new());
        };
        let claims: UserInfoClaims<Others, CoreGenderClaim> = request
            .request(&|request| self.http.send(request))
            .map_err(|error| OpenIdError::UserInfo(told(&error)))?;
        Ok(object(&claims))
    }
}

/// How the client names itself to the provider: in a header, unless the provider takes it in the body only.
fn auth_type(metadata: &CoreProviderMetadata) -> AuthType {
    let offered = metadata.token_endpoint_auth_methods_supported();
    let offers = |method: CoreClientAuthMethod| offered.is_some_and(|methods| methods.contains(&method));
    if offers(CoreClientAuthMethod::ClientSecretPost) && !offers(CoreClientAuthMethod::ClientSecretBasic) {
        AuthType::RequestBody
    } else {
        AuthType::BasicAuth
    }
}

/// The scopes of an option; `openid` is asked for anyway.
fn own_scopes(text: &str) -> impl Iterator<Item = &str> {
    list::split(text).into_iter().filter(|scope| *scope != "openid")
}

fn redirect(url: &str) -> Result<RedirectUrl, OpenIdError> {
    RedirectUrl::new(url.to_owned()).map_err(|error| OpenIdError::Redirect(error.to_string()))
}

fn openid_time(seconds: i64) -> chrono::DateTime<chrono::Utc> {
    // A time that cannot be told is late: nothing is good then.
    chrono::DateTime::from_timestamp(seconds, 0).unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC)
}

/// Claims as they stand in the token.
fn object(claims: &impl Serialize) -> Claims {
    match serde_json::to_value(claims) {
        Ok(Value::Object(object)) => object,
        _ => Claims::new(),
    }
}

/// An error and what caused it, in one line.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn all_questions_of_a_log_in_have_one_deadline() {
        // Takes connections, and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = silent.local_addr().unwrap();
        let root = tempfile::tempdir().unwrap();
        let context = pve_testing::context(root.path(), "node1");
        let text = format!("openid: sso\n\tissuer-url http://{server}\n\tclient-id pve\n\n");
        let cfs = Cfs::new(&context);
        cfs.ensure_tree().unwrap();
        cfs.write("domains.cfg", text.as_bytes()).unwrap();
        let realm = super::super::realm_of(&context, "sso").unwrap();
        for left in [Duration::from_millis(200), Duration::ZERO] {
            let began = Instant::now();
            let error = Provider::discover(&context, "sso", &realm, began + left).err().unwrap();
            let told = error.to_string();
            assert!(told.contains(&format!("{server} does not answer - timeout")), "{told}");
            assert!(began.elapsed() < DEADLINE / 2, "{:?}", began.elapsed());
        }
    }
}

//! `GET /api2/openapi.json`: the API described for machines. As public as the API's own documentation: it says what any
//! server of the release has, and nothing of this one.

use std::io::Read as _;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::StatusCode;
use http::header::CONTENT_ENCODING;

use crate::answer::{Answer, Payload};
use crate::refusal::Refusal;

/// The description: packed, as it was made, for who takes it so.
pub(crate) fn description(accept_encoding: Option<&str>) -> Result<Answer, Refusal> {
    let answer = Answer::new(StatusCode::OK, "").with_type("application/json;charset=UTF-8");
    let packed = pve_contract::OPENAPI_GZIP;
    if accept_encoding.is_some_and(|accepted| accepted.contains("gzip")) {
        let body = Payload::Whole(Bytes::from_static(packed));
        return Ok(answer.with_header(CONTENT_ENCODING, "gzip").with_body(body));
    }
    let mut text = Vec::new();
    // What the build packed can be unpacked.
    GzDecoder::new(packed)
        .read_to_end(&mut text)
        .map_err(|_| Refusal::NoSuchUri)?;
    Ok(answer.with_body(Payload::Whole(Bytes::from(text))))
}

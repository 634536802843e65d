//! The formats: how a handler's answer looks on the wire (reference 01 §3.8).

use bytes::Bytes;
use http::StatusCode;
use pve_rest::{ApiError, Reply};
use serde_json::{Map, Value, json};

use crate::answer::{Answer, Payload};

/// A format of answers, the first path component below `/api2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// An envelope with the real status.
    Json,
    /// An envelope that carries the status itself; the HTTP status is always 200.
    ExtJs,
    /// `extjs` as HTML text, for uploads through a form.
    HtmlJs,
    /// A file for a SPICE viewer: the result's own properties, without an envelope.
    SpiceConfig,
    /// A picture: the bytes of the result's property `image`, without an envelope.
    Png,
    /// A page for people, which needs more than the answer: module `html`.
    Html,
}

impl Format {
    /// The format of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "extjs" => Some(Self::ExtJs),
            "htmljs" => Some(Self::HtmlJs),
            "spiceconfig" => Some(Self::SpiceConfig),
            "png" => Some(Self::Png),
            "html" => Some(Self::Html),
            _ => None,
        }
    }

    /// A handler's answer.
    pub(crate) fn reply(self, reply: Reply) -> Answer {
        if let (Self::Json, Reply { text: Some(text), .. }) = (self, &reply) {
            return json_answer(StatusCode::OK, "", format!("{{\"data\":{text}}}"));
        }
        let reply = reply.settled();
        match self {
            Self::SpiceConfig => return viewer_file(StatusCode::OK, "", &reply.data),
            Self::Png => return picture(StatusCode::OK, "", &reply.data),
            _ => {}
        }
        let mut envelope = Map::new();
        envelope.insert("data".into(), reply.data);
        if let Some(total) = reply.total.filter(|total| *total != 0) {
            envelope.insert("total".into(), total.into());
        }
        if let Some(changes) = reply.changes.filter(|changes| !changes.is_empty()) {
            envelope.insert("changes".into(), changes.into());
        }
        if !matches!(self, Self::Json | Self::Html) {
            envelope.insert("success".into(), 1.into());
        }
        self.answer(StatusCode::OK, "", envelope)
    }

    /// A refused or failed call.
    pub(crate) fn error(self, error: &ApiError) -> Answer {
        let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let standard = status.canonical_reason().unwrap_or("error");
        let message = if error.message.is_empty() {
            standard
        } else {
            &error.message
        };
        match self {
            Self::SpiceConfig => return viewer_file(status, message, &Value::Null),
            Self::Png => return picture(status, message, &Value::Null),
            _ => {}
        }
        let mut envelope = Map::new();
        envelope.insert("data".into(), Value::Null);
        if status.is_client_error() || status.as_u16() >= 500 {
            envelope.insert("message".into(), message.into());
        }
        if !error.errors.is_empty() {
            envelope.insert("errors".into(), json!(error.errors));
        }
        if matches!(self, Self::Json | Self::Html) {
            return self.answer(status, message, envelope);
        }
        envelope.insert("success".into(), 0.into());
        envelope.insert("status".into(), status.as_u16().into());
        self.answer(StatusCode::OK, "", envelope)
    }

    fn answer(self, status: StatusCode, message: &str, envelope: Map<String, Value>) -> Answer {
        // Not by `Display`, which is several times slower. Maps with text for keys always have a text.
        let text = serde_json::to_string(&envelope).unwrap_or_default();
        match self {
            Self::HtmlJs => Answer::new(status, message)
                .with_type("text/html;charset=UTF-8")
                .with_body(Payload::Whole(Bytes::from(escape(&text)))),
            _ => json_answer(status, message, text),
        }
    }
}

fn json_answer(status: StatusCode, message: &str, text: String) -> Answer {
    Answer::new(status, message)
        .with_type("application/json;charset=UTF-8")
        .with_body(Payload::Whole(Bytes::from(text)))
}

/// What remote-viewer reads: a group of `KEY=VALUE` lines. Nothing at all for what is no object, and for errors.
fn viewer_file(status: StatusCode, message: &str, data: &Value) -> Answer {
    let lines = data.as_object().map(|properties| {
        let lines = properties.iter().filter_map(|(key, value)| {
            let value = match value {
                Value::Null => return None,
                Value::String(text) => one_line(text),
                Value::Bool(flag) => u8::from(*flag).to_string(),
                other => other.to_string(),
            };
            Some(format!("{}={value}\n", one_line(key)))
        });
        format!("[virt-viewer]\n{}", lines.collect::<String>())
    });
    Answer::new(status, message)
        .with_type("application/x-virt-viewer;charset=UTF-8")
        .with_body(lines.map_or(Payload::Empty, |lines| Payload::Whole(Bytes::from(lines))))
}

/// The picture of an answer: a file's name and its bytes, one character for each.
fn picture(status: StatusCode, message: &str, data: &Value) -> Answer {
    let text = |name| data.get(name).and_then(Value::as_str);
    let bytes = text("filename").and(text("image")).map(|image| {
        let bytes = image.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'));
        Payload::Whole(bytes.collect::<Vec<u8>>().into())
    });
    let mut answer = Answer::new(status, message)
        .with_type("image/png")
        .with_body(bytes.unwrap_or(Payload::Empty));
    answer.incompressible = true;
    answer
}

/// A line break in a value could forge a key; the file's format spells it so.
fn one_line(text: &str) -> String {
    text.replace('\r', "").replace('\n', "\\n")
}

/// Text as HTML that shows it: markup characters and everything beyond ASCII become entities.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + text.len() / 2);
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("&quot;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_ascii() => escaped.push(c),
            c => escaped.push_str(&format!("&#x{:X};", u32::from(c))),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(answer: &Answer) -> String {
        match &answer.body {
            Payload::Whole(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            _ => String::new(),
        }
    }

    fn parsed(answer: &Answer) -> Value {
        serde_json::from_str(&text(answer)).unwrap()
    }

    #[test]
    fn success_envelopes_follow_the_vectors() {
        let full = || Reply {
            data: json!([1, 2]),
            total: Some(5),
            changes: Some("abc".into()),
            ..Reply::default()
        };
        for (reply, json, extjs) in [
            (
                Reply::null(),
                json!({"data": null}),
                json!({"data": null, "success": 1}),
            ),
            (
                full(),
                json!({"data": [1, 2], "total": 5, "changes": "abc"}),
                json!({"data": [1, 2], "total": 5, "changes": "abc", "success": 1}),
            ),
            (
                Reply::page(json!([]), 0),
                json!({"data": []}),
                json!({"data": [], "success": 1}),
            ),
        ] {
            let again = Reply {
                data: reply.data.clone(),
                total: reply.total,
                changes: reply.changes.clone(),
                ..Reply::default()
            };
            assert_eq!(parsed(&Format::Json.reply(reply)), json);
            assert_eq!(parsed(&Format::ExtJs.reply(again)), extjs);
        }
    }

    #[test]
    fn data_that_is_text_already_looks_the_same() {
        let text = || Reply::text(r#"{"data":[1,"a"]}"#.to_owned());
        let value = || Reply::from(json!({"data": [1, "a"]}));
        for format in [Format::Json, Format::ExtJs] {
            assert_eq!(parsed(&format.reply(text())), parsed(&format.reply(value())));
        }
    }

    #[test]
    fn error_envelopes_follow_the_vectors() {
        for (error, status, json) in [
            (
                ApiError::parameter("a", "type check ('integer') failed - got 'x'"),
                400,
                json!({
                    "data": null,
                    "errors": {"a": "type check ('integer') failed - got 'x'"},
                    "message": "Parameter verification failed.\n",
                }),
            ),
            (
                ApiError::not_implemented("GET", "/nosuch"),
                501,
                json!({"data": null, "message": "Method 'GET /nosuch' not implemented"}),
            ),
            (ApiError::plain("boom"), 500, json!({"data": null, "message": "boom\n"})),
            (
                ApiError::status(404, ""),
                404,
                json!({"data": null, "message": "Not Found"}),
            ),
        ] {
            let answer = Format::Json.error(&error);
            assert_eq!((answer.status.as_u16(), parsed(&answer)), (status, json.clone()));
            let mut expected = json;
            expected["success"] = json!(0);
            expected["status"] = json!(status);
            let answer = Format::ExtJs.error(&error);
            assert_eq!((answer.status.as_u16(), parsed(&answer)), (200, expected));
        }
    }

    /// Vector 33.
    #[test]
    fn spiceconfig_is_a_viewers_file() {
        for (data, expected) in [
            (json!({"x": 1}), "[virt-viewer]\nx=1\n"),
            (json!({"a": "b=c", "n": null, "t": true}), "[virt-viewer]\na=b=c\nt=1\n"),
            (
                json!({"ca": "one\r\ntwo\nproxy=evil"}),
                "[virt-viewer]\nca=one\\ntwo\\nproxy=evil\n",
            ),
            (json!({}), "[virt-viewer]\n"),
            (json!([1]), ""),
            (json!("text"), ""),
            (Value::Null, ""),
        ] {
            let answer = Format::SpiceConfig.reply(Reply::from(data));
            assert_eq!(text(&answer), expected);
            assert_eq!(
                answer.headers[http::header::CONTENT_TYPE],
                "application/x-virt-viewer;charset=UTF-8"
            );
        }
        let answer = Format::SpiceConfig.error(&ApiError::plain("VM 100 not running"));
        assert_eq!((answer.status.as_u16(), text(&answer).as_str()), (500, ""));
        assert_eq!(answer.message.trim_end(), "VM 100 not running");
    }

    #[test]
    fn png_is_the_picture_itself() {
        for (data, expected) in [
            (
                json!({"filename": "/x.png", "image": "\u{89}PNG\r\n\u{1a}\n\u{0}\u{ff}"}),
                &b"\x89PNG\r\n\x1a\n\0\xff"[..],
            ),
            (json!({"image": "abc"}), b""),
            (json!({"filename": "/x.png"}), b""),
            (Value::Null, b""),
        ] {
            let answer = Format::Png.reply(Reply::from(data));
            let bytes = match &answer.body {
                Payload::Whole(bytes) => bytes.to_vec(),
                _ => Vec::new(),
            };
            assert_eq!(bytes, expected);
            assert_eq!(answer.headers[http::header::CONTENT_TYPE], "image/png");
            assert!(answer.incompressible);
        }
        let answer = Format::Png.error(&ApiError::plain("RRD error"));
        assert_eq!((answer.status.as_u16(), text(&answer).as_str()), (500, ""));
    }

    #[test]
    fn htmljs_is_extjs_as_html_text() {
        let answer = Format::HtmlJs.reply(Reply::from(json!({"x": 1})));
        assert_eq!(
            text(&answer),
            "{&quot;data&quot;:{&quot;x&quot;:1},&quot;success&quot;:1}"
        );
        let answer = Format::HtmlJs.reply(Reply::from(json!("<é>'&")));
        assert_eq!(
            text(&answer),
            "{&quot;data&quot;:&quot;&lt;&#xE9;&gt;&#39;&amp;&quot;,&quot;success&quot;:1}"
        );
    }
}

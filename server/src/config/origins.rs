//! Origins as browsers send them: `SCHEME://HOST` or `SCHEME://HOST:PORT`, and nothing more. One that is written
//! differently never matches, so it is refused with a correction.

use reqwest::Url;

/// None if a browser can send it; else the correction.
pub(crate) fn correct(origin: &str) -> Option<String> {
    let generic = || Some("SCHEME://HOST or SCHEME://HOST:PORT, as in https://app.example.com".to_owned());
    if ["*", "null"].contains(&origin) {
        return None;
    }
    if origin.contains('*') {
        return Some("each origin by its name, or * alone for all".to_owned());
    }
    let Some((scheme, rest)) = origin.split_once("://") else {
        let url = Url::parse(&format!("https://{origin}")).ok();
        return url.filter(Url::has_host).map_or_else(generic, |url| Some(url.origin().ascii_serialization()));
    };
    let wanted = match Url::parse(origin) {
        // For these schemes browsers send scheme, host and port only.
        Ok(url) if url.origin().is_tuple() => url.origin().ascii_serialization(),
        Ok(url) if url.has_host() => format!("{scheme}://{}", rest.split(['/', '?', '#']).next().unwrap_or(rest)),
        Ok(_) => "null, which is what browsers send for such pages".to_owned(),
        Err(_) => return generic(),
    };
    (!wanted.eq_ignore_ascii_case(origin)).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_send_is_left_alone() {
        for origin in [
            "*",
            "null",
            "http://localhost:3000",
            "https://app.example.com",
            "https://App.Example.com",
            "https://[::1]:8443",
            "capacitor://localhost",
            "chrome-extension://abcdefgh",
        ] {
            assert_eq!(correct(origin), None, "{origin}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_put_right() {
        for (origin, wanted) in [
            ("https://app.example.com/", "https://app.example.com"),
            ("https://app.example.com/chat?x#y", "https://app.example.com"),
            ("https://ann@app.example.com", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://localhost:80", "http://localhost"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("app.example.com", "https://app.example.com"),
            ("localhost:3000", "https://localhost:3000"),
            ("capacitor://localhost/", "capacitor://localhost"),
            ("https://*.example.com", "each origin by its name, or * alone for all"),
            ("file:///index.html", "null, which is what browsers send for such pages"),
            ("https://", "SCHEME://HOST or SCHEME://HOST:PORT, as in https://app.example.com"),
            ("two words", "SCHEME://HOST or SCHEME://HOST:PORT, as in https://app.example.com"),
        ] {
            assert_eq!(correct(origin).as_deref(), Some(wanted), "{origin}");
        }
    }
}

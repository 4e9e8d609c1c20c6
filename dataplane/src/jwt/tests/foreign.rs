//! Keys and tokens that another library (Python's `cryptography`) made, so that ours is not
//! only compared with itself. All payloads are `{"iss":"https://issuer"}`; the private keys
//! were thrown away.

/// A 2048-bit modulus; the exponent is 65537.
pub(super) const MODULUS: &str = "qB4fplI0KSkzT6gYzqJIW2zpthjuc2DmyGJQ14jJi0yBxNj60r08neA1_POMTHx5Ts4KwKGFHQaSsXQFnVa52fAK0igop0Lit5GystIkkqG2eTHssEd-2FRXEF0IqiuGYgmXIUTv3gwWDoMBREe98hSNbBotdKlkPj7mJQ_YcqUxqkQx3EgzV4M17yGw3K0wMZ-KDTa2tf4TUeXAiMohzgaxgkIQSA94rtGHMlD306O3yA_H2hRjelVwpsckXClNWXsdpJChXvQ8RJwAUUSz2FZOXOJkumnXkvK6WvcbUsIXZP1DkGHIA5Q0UHL-8ZoQk58YlX0t2ffFJqZdV9W8IQ";
/// A 1024-bit modulus, with the same exponent.
pub(super) const SHORT_MODULUS: &str = "0dPVpm8kxlPusSpurQiDweoFBH8IKtKkcRlmckVX77xw28LNz1Fu-2Nie9sAWdHkyUunB9cHD3iiEKXlTk_rDi65YEsmPY_QVrVcFS-Oz19-_R97oREynJ4un5j-wG5yzC39-sRZqA5OD3bEye5VK5rwHy0VfmapSJsFQlXnrec";
/// A point on P-384.
pub(super) const P384: (&str, &str) = (
    "P4NkVHoLD3g0pybAem8xaejS0riR7n4m_rVXlggPyU2Wp6pmwTvJVTPKZaYMVCx_",
    "L9sxAnZGbvDJ0JXKgY5snofucmsyOaTX81NSrxbXV19pqO3TA_J7ItiwFMBwYDBy",
);
/// By the matching key.
pub(super) const RS256: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3VlciJ9.F2W7C4QwDPn1y6mYS_F3Tm9OF7CaPOQspL81w3-WWLOW-jp9aaK9RbPsYfHulcRIUd2zdhdx3hkM9cI9fQ6d3JumiWbuIGgYlcK8JCuLZhxnShtYtO1iGhLDNDteVDDzDTnZ6R3-CQxlOmZzB6Si5VSu2LwS0XBJuLEAh3qMG0pLrpKrTKjxXNuNHOA9jtULjlYAsD2WQm_qplr_HuBUlkkwPtVWNi87oThqsBR2eUx3aESRHL3EO5QdpjAe0uLaaWobRYAJ2SqVHcsznBv5PU2BLbt7ApzuC1ExuF7pJbFpP8rnC_5vzfHScUWO06cFpWUH6qxMKQajarhWn-Lx8g";
/// By the matching key.
pub(super) const RS384: &str = "eyJhbGciOiJSUzM4NCIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3VlciJ9.ibnS2PbtzrMtJtPamCSD5LT88dAXDKWlWGNCsvBTYkoLS-qB2Rf8sdm7Xw0wwb0ZG1yTMV7B6xHbgZo0HLu_Mloggm5jK56ndv_H9SBPs4uy_NOWKKfDd_GrG73XRP8Kos6arymKfAEa-YUd8LjRFqtV3-b9MJoXSohMAmrFgX28I7GUIKD8LUZZqEeE2pGxxYWBKdythQmlB1exjTcH1ENvaSU8RapfjgWOneoYhUTkQDfcRd6XzZfJxHcKnotBL1NrXc1RwdZyd0KImp9o5UUi7m259fhfWy1lwjoZO9UngFeaMwZh0TnOxfMbv40fM6smrt0I6MRUJmHNbfuASQ";
/// By the matching key.
pub(super) const RS512: &str = "eyJhbGciOiJSUzUxMiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3VlciJ9.X2WqJ9Qn1lGq064N3MwcQLsfoVGEdPqpqt2aUk9lghcLP9sx9UxWx6REwHcZ1ww4C7YQmyL4JG86XQUeR-2hrPGyjWaf_DrAzcrOOkwEkoBtR1Vh3zA956hwrgVtPJbiEcU-c2URpAkILFPOhaDegohPEQwaA5e0FXhlAxRi8ybNHOwu3oJh-anT-iakqj8v62hyRAF9LsBAnBS5iZFrGm660hYqzUZIYRS04oBt2aGSyzJrTGKpLH3D_oBzTcgwS-Jd7k4aJyTjYgRXchCRfIMcOyDZdl34HuQitPb9taamFtyGYP-fuH_5q0QgbXq7dmUZ9ld4fJWAYNfhkXkdJg";
/// By the matching key.
pub(super) const PS256: &str = "eyJhbGciOiJQUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3VlciJ9.Nh1EDmPpziNfY-Z81hX3Lp7CS0bRgaYrmj1g_lR8llmmlOytwbrkUBWysss8vaduBNPf4w0zoGt7WtXVSe3WlbZs0jXwEAANg0w_OKxEFGB2IQBDDuT-PXbGV2qYmzhMjReBRouIq1X10GwAvngc25U9G9xmoLVmZAXQkSu6qRfPYJXgXWEIE_RgcfCWFjentaqUDjSgUwHAgu7stnvwTbWFPBNxzH_fVg4z2kjQm8yDIzgDEEy5O3OZtiI9gbb5fmSlhYq-4O_8t5l1A2XTgwBTBIssRm1gtaFG4p4XhUvzzLIoxD_3bA0XbNiCDHIzHRYMSsYotr8_PHNLQle6ug";
/// By the matching key.
pub(super) const ES384: &str = "eyJhbGciOiJFUzM4NCIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3VlciJ9.bVjTisqtnSDJ4sTsqoFTzvyMt4tsCcnHlzp8J4U5Nl9HVSt2A88JEsWkbrah5c4CQ6RIlKbFnSIgRgfJQZTDXhzjWKCFar3Cza9B3Faxkzy44wt2PR2TfpbgoeVBzzyU";
/// By the short key.
pub(super) const SHORT_RS256: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3VlciJ9.aAcyRncbQn9KcXrhPWdBL1dNDmPaxwWyRpa8r5ayd6Wvy7biDIFzbwv7qCJQLsIEJsZrMTkZzPOLzFrwIuIrVR691O8Xo-EiLG_8XTFWqXyZUOMO8EglaYc8-dE0_Uo8YjshmOvkQL2X-enm8gVY0TMeZDl1bT6e2-m-Mmeh7N8";
/// HS256 with the public key's PEM as the secret.
pub(super) const PEM_AS_SECRET: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3VlciJ9.ZWmCyO5QI-B3-LJ9XK-NO_8lSgNtnTbbpf47sn4b7K0";
/// HS256 with the modulus as the secret.
pub(super) const MODULUS_AS_SECRET: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lzc3VlciJ9.2FpoGGQQ96wakRW6JqspxHjIGseII_eJ1L_e9hu9Tck";

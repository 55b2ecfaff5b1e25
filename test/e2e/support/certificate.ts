/**
 * A certificate that nobody trusts who is not told to, for localhost and until the year 2126:
 * openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1
 */
export const LOCALHOST = {
  key: `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgN4KJR0Kyndi26TFb
NRdMWSl+bxJJjAV/UtT+iNYbFROhRANCAATJwWXQMxYKT+6wBE4lBwIdFCiLWKgV
UDAIllUCvhD5/rFKgbOYBydXmJ/vcBeKMN0BpUbYw7BudKInOEUEDS0f
-----END PRIVATE KEY-----`,
  cert: `-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUZXWj6C6gxlOzo1TyXavrbQdG7C8wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEzMDIzNDU1OVoYDzIxMjYxMTA2
MjM0NTU5WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATJwWXQMxYKT+6wBE4lBwIdFCiLWKgVUDAIllUCvhD5/rFKgbOYBydX
mJ/vcBeKMN0BpUbYw7BudKInOEUEDS0fo28wbTAdBgNVHQ4EFgQU4tWB84U1jb0c
1qw/c3LqMlMJSUgwHwYDVR0jBBgwFoAU4tWB84U1jb0c1qw/c3LqMlMJSUgwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgcpZnejmUr1LJa1fYbE93KJF9uBGT8gZ47oTzOv/pP9kCIQCX
iXAcnXqL0Jc70/Ew9Usc/VNkndddF9GokyRl4AS8Ng==
-----END CERTIFICATE-----`,
};

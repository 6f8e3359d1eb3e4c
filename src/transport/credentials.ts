import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'

/** 256 random bits, as text that needs no quoting in a header or a shell. Shown once, stored nowhere. */
export function createToken(): string {
  return randomBytes(32).toString('base64url')
}

/** What is stored of a token. A token is random, not a password: one round of SHA-256 is as far from it as many. */
export function hashToken(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

/** In constant time. */
export function isToken(token: string, hash: Uint8Array): boolean {
  const own = hashToken(token)
  return own.length === hash.length && timingSafeEqual(own, hash)
}

const BEARER = /^Bearer +([A-Za-z0-9_-]{43})$/i

/** The token of an Authorization header (RFC 6750; the scheme in any case, RFC 9110, 11.1), where it has the form of one. */
export function bearerToken(header: string | null): string | undefined {
  return header?.match(BEARER)?.[1]
}

/**
 * Values as texts that are equal where storage class and content are: `i1` is another value than `r1` and `t1`. Written anew from
 * docs/configuration.md, so that what the library encodes is checked by something else than the library.
 */
export type Exact = string

export const NULL: Exact = 'n'

export function exactInteger(value: bigint | string): Exact {
  return `i${value}`
}

export function exactReal(value: number): Exact {
  return `r${Object.is(value, -0) ? '-0' : value}`
}

export function exactText(value: string): Exact {
  return `t${value}`
}

export function exactBytes(value: Uint8Array): Exact {
  return `b${Buffer.from(value).toString('hex')}`
}

export function exactBoolean(value: boolean): Exact {
  return value ? 'true' : 'false'
}

const TAGS = ['$blob', '$real']

/** The values of a sealed record, or of a record id, by the text of the entry. */
export function exactValues(json: string): Record<string, Exact> {
  return JSON.parse(json, ((key: string, value: unknown, context: { source: string }): unknown => {
    if (TAGS.includes(key)) return value
    if (value === null) return NULL
    if (typeof value === 'string') return exactText(value)
    if (typeof value === 'boolean') return exactBoolean(value)
    if (typeof value === 'number') return /^-?\d+$/.test(context.source) ? exactInteger(context.source) : exactReal(value)
    const tagged = value as { readonly $blob?: string; readonly $real?: string }
    if (typeof tagged.$blob === 'string') return exactBytes(Buffer.from(tagged.$blob, 'base64'))
    if (typeof tagged.$real === 'string') return exactReal(Number(tagged.$real))
    return value
  }) as (key: string, value: unknown) => unknown) as Record<string, Exact>
}

/** A record id by the values of its key. */
export function idOf(values: readonly Exact[]): string {
  return JSON.stringify(values)
}

export function idOfText(recordId: string): string {
  return idOf(Object.values(exactValues(recordId)))
}

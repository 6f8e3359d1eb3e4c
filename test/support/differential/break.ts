/** A promise that does not hold. The kind says which, so that what is left out while a case is made smaller does not break another one. */
export class Break extends Error {
  readonly kind: string

  constructor(kind: string, message: string) {
    super(`${kind}: ${message}`)
    this.kind = kind
  }
}

/** A case that says nothing: its tables could not be made. */
export class Unfit extends Error {}

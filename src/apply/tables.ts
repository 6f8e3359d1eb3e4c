import type { OwnTable } from '../own-table.ts'

/** The registers that central knows, and where it stands in their streams. */
export const REGISTERS = {
  name: 'sync_registers',
  columns: {
    register_id: 'integer',
    location: 'text',
    register: 'text',
    added_at: 'time',
    /** Since when no token of it is valid; NULL while one is. */
    revoked_at: 'time',
    /** When its last batch was applied. */
    contact_at: 'time',
    /** The epoch of its stream in which central stands, by the number that it has here; 0 before the first. */
    epoch_no: 'integer',
    epoch: 'text',
    entry_no: 'integer',
    digest: 'text',
    /** Two copies of its database speak: nothing is taken until one is chosen. */
    held: 'boolean',
    /** The next epoch is taken though it has nothing in common with what was before. */
    reset: 'boolean',
    /** There are documents that it may have lost, see the state in sync_documents. */
    unsettled: 'boolean',
    /** Documents that the register can't read, as it last said: a JSON array of [table, record id]; NULL where there are none. */
    parked: 'json',
    /** What filters may ask of it: a JSON object; NULL where nothing was said. */
    attributes: 'json',
    /** The number of its last entry, as it said with the batch that was applied last; NULL before the first. */
    head_no: 'integer',
    /** When it last spoke, to some minutes, where that was without a batch. */
    heard_at: 'time',
    /** The version of the library there, as it last said; NULL for one that does not say. */
    version: 'text',
  },
  primaryKey: ['register_id'],
  nullable: ['revoked_at', 'contact_at', 'epoch', 'digest', 'parked', 'attributes', 'head_no', 'heard_at', 'version'],
  generated: 'register_id',
  uniques: [['location', 'register']],
} as const satisfies OwnTable

/** Which tokens are whose: at most two of a register, its newest and the one that it is to give up. */
export const CREDENTIALS = {
  name: 'sync_credentials',
  columns: {
    token_hash: 'bytes',
    register_id: 'integer',
    issued_at: 'time',
    /** When it first came with a request. */
    used_at: 'time',
    /** From then on it is not valid; NULL for the newest. */
    ends_at: 'time',
  },
  primaryKey: ['token_hash'],
  nullable: ['used_at', 'ends_at'],
} as const satisfies OwnTable

/** The epochs of each register's stream, in the order in which central met them. */
export const EPOCHS = {
  name: 'sync_epochs',
  columns: {
    register_id: 'integer',
    epoch_no: 'integer',
    epoch: 'text',
    /** The last entry of the history before it that it goes on from. */
    parent_no: 'integer',
    /** Its own entries come after this one. */
    start_no: 'integer',
    start_digest: 'text',
    /** Where central stands in it, once it is superseded; a late batch may move that. */
    entry_no: 'integer',
    digest: 'text',
    /** 'current'; 'superseded' by another; 'cloned': superseded, and yet it goes on; 'kept': of two copies the one that is to; 'dismissed': the other one. */
    state: 'text',
    begun_at: 'time',
  },
  primaryKey: ['register_id', 'epoch_no'],
  nullable: ['entry_no', 'digest'],
  stamped: 'begun_at',
  uniques: [['register_id', 'epoch']],
} as const satisfies OwnTable

/** Where each batch ended: points by which two histories can be compared without reading them. */
export const POINTS = {
  name: 'sync_points',
  columns: {
    register_id: 'integer',
    epoch_no: 'integer',
    entry_no: 'integer',
    digest: 'bytes',
    /** Where the entries before it were pruned from the archive, the number behind which they began; otherwise NULL. */
    pruned_after: 'integer',
  },
  primaryKey: ['register_id', 'epoch_no', 'entry_no'],
  nullable: ['pruned_after'],
} as const satisfies OwnTable

/** Documents that are too large for one message, as far as they have come: rows go when the document is applied, or another comes in its place. */
export const FRAMES = {
  name: 'sync_frames',
  columns: {
    register_id: 'integer',
    epoch_no: 'integer',
    /** Its last entry, and the digest there. */
    entry_no: 'integer',
    digest: 'bytes',
    /** Where central stands until the document is whole. */
    base_no: 'integer',
    /** Its entries come after this one. */
    after_no: 'integer',
    bytes: 'integer',
    /** Table and record id, as JSON. */
    document: 'text',
    /** Its entries: a JSON array of `[table, operation, recordId, record, sealedAt]`. */
    contents: 'text',
    received_at: 'time',
  },
  primaryKey: ['register_id', 'epoch_no', 'entry_no'],
  stamped: 'received_at',
} as const satisfies OwnTable

/** The parts of each register's root tables, as its rules last had them: a JSON array of `PartShape`; and the columns of the record ids, another one. */
export const SHAPES = {
  name: 'sync_shapes',
  columns: { register_id: 'integer', table_name: 'text', parts: 'json', key_columns: 'json' },
  primaryKey: ['register_id', 'table_name'],
} as const satisfies OwnTable

/** Every entry that was received, as it was sealed. */
export const ARCHIVE = {
  name: 'sync_archive',
  columns: {
    register_id: 'integer',
    epoch_no: 'integer',
    entry_no: 'integer',
    table_name: 'text',
    operation: 'text',
    record_id: 'text',
    record: 'text',
    /** The first entry of its document. */
    document_no: 'integer',
    sealed_at: 'time',
    received_at: 'time',
  },
  primaryKey: ['register_id', 'epoch_no', 'entry_no'],
  nullable: ['record'],
  stamped: 'received_at',
} as const satisfies OwnTable

/** The latest version of each document, and where in the archive it stands. */
export const DOCUMENTS = {
  name: 'sync_documents',
  columns: {
    register_id: 'integer',
    table_name: 'text',
    record_id: 'text',
    /** Which life of the key it is; another one begins when a removed key is used again. */
    incarnation: 'integer',
    /** How many lives of the key there were. */
    lives: 'integer',
    removed: 'boolean',
    epoch_no: 'integer',
    /** The first of its entries, the root record's. */
    entry_no: 'integer',
    entries: 'integer',
    /** How many versions of it were received. */
    versions: 'integer',
    /** The entry by which this life of the key began. */
    born_epoch_no: 'integer',
    born_entry_no: 'integer',
    /** 'lost': the register's history no longer has it; 'back': it has it again, which the next version settles; 'wanted': it has an earlier version. NULL otherwise. */
    state: 'text',
    /** Former lives of the key: a JSON array of their number, birth and end. NULL where there were none. */
    former: 'json',
  },
  primaryKey: ['register_id', 'table_name', 'record_id'],
  nullable: ['state', 'former'],
} as const satisfies OwnTable

/**
 * Lives of keys that are over: the document was removed, or its register has lost it and the key is another one's. With the version that stands of it, and the removal, where one
 * ended it. The row of a life that a restore has brought back says nothing until that ends again.
 */
export const LIVES = {
  name: 'sync_lives',
  columns: {
    register_id: 'integer',
    table_name: 'text',
    record_id: 'text',
    incarnation: 'integer',
    epoch_no: 'integer',
    entry_no: 'integer',
    entries: 'integer',
    /** The entry by which it began. */
    born_epoch_no: 'integer',
    born_entry_no: 'integer',
    removal_epoch_no: 'integer',
    removal_no: 'integer',
  },
  primaryKey: ['register_id', 'table_name', 'record_id', 'incarnation'],
  nullable: ['removal_epoch_no', 'removal_no'],
} as const satisfies OwnTable

/** Documents that a register has lost by a restore, and what became of them. */
export const ORPHANS = {
  name: 'sync_orphans',
  columns: {
    orphan_id: 'integer',
    register_id: 'integer',
    table_name: 'text',
    record_id: 'text',
    incarnation: 'integer',
    epoch_no: 'integer',
    entry_no: 'integer',
    entries: 'integer',
    /** 'orphaned'; 'returned': the register has it again; 'withdrawn'; 'former': the register had removed it before, or was set up anew. */
    state: 'text',
    reason: 'text',
    orphaned_at: 'time',
    settled_at: 'time',
    /** 'offered' to its register; 'taken', or 'refused' there, and why. */
    back: 'text',
    back_code: 'text',
    back_message: 'text',
  },
  primaryKey: ['orphan_id'],
  nullable: ['reason', 'settled_at', 'back', 'back_code', 'back_message'],
  generated: 'orphan_id',
  stamped: 'orphaned_at',
  uniques: [['register_id', 'table_name', 'record_id', 'incarnation']],
} as const satisfies OwnTable

/**
 * Documents that could not be applied. Of a document in one life of its key at most one row is 'waiting'. What a row points to in the archive stays there as
 * long as it waits.
 */
export const QUARANTINE = {
  name: 'sync_quarantine',
  columns: {
    quarantine_id: 'integer',
    register_id: 'integer',
    table_name: 'text',
    record_id: 'text',
    incarnation: 'integer',
    /** The version that waits: the first of its entries, and how many there are. */
    epoch_no: 'integer',
    entry_no: 'integer',
    entries: 'integer',
    /** The removal that came behind that version, and waits with it; NULL where there is none. */
    removal_epoch_no: 'integer',
    removal_no: 'integer',
    /** What it was before the register began to publish it, where the version that waits came with that, or is its first; else NULL. */
    baseline_epoch_no: 'integer',
    baseline_no: 'integer',
    baseline_entries: 'integer',
    /** The version that was applied last, which is what is posted; NULL where none was. */
    applied_epoch_no: 'integer',
    applied_no: 'integer',
    applied_entries: 'integer',
    /** 'waiting'; 'discarded': settled by hand, the reason says why. A row that is applied after all is deleted. */
    state: 'text',
    /** What went wrong when it was tried last. */
    code: 'text',
    message: 'text',
    hint: 'text',
    /** 'missing': it refers to something that is not there yet, and is tried again when other documents have come; 'other'. */
    cause: 'text',
    /** How often this version was tried. */
    attempts: 'integer',
    quarantined_at: 'time',
    tried_at: 'time',
    /** From then on it is tried again by itself. */
    retry_at: 'time',
    reason: 'text',
    settled_at: 'time',
  },
  primaryKey: ['quarantine_id'],
  nullable: [
    'removal_epoch_no',
    'removal_no',
    'baseline_epoch_no',
    'baseline_no',
    'baseline_entries',
    'applied_epoch_no',
    'applied_no',
    'applied_entries',
    'hint',
    'reason',
    'settled_at',
  ],
  generated: 'quarantine_id',
  uniques: [['register_id', 'table_name', 'record_id', 'incarnation', 'epoch_no', 'entry_no']],
} as const satisfies OwnTable

/**
 * What was posted for each document: one row for each time that something was, never changed. `postings` is a JSON array
 * of differences; their sum over the revisions is what the document has posted, or the host before us (`delivered` false).
 */
export const POSTINGS = {
  name: 'sync_postings',
  columns: {
    register_id: 'integer',
    table_name: 'text',
    record_id: 'text',
    incarnation: 'integer',
    ledger: 'text',
    revision: 'integer',
    /** False for a baseline: what the host had booked itself before the register began to publish. */
    delivered: 'boolean',
    /** The entry that caused it: the first of a version, or of the baseline. */
    epoch_no: 'integer',
    entry_no: 'integer',
    posted_at: 'time',
    postings: 'json',
  },
  primaryKey: ['register_id', 'table_name', 'record_id', 'incarnation', 'ledger', 'revision'],
  stamped: 'posted_at',
} as const satisfies OwnTable

/** The ledger of stock: one row for each posting, never changed. */
export const STOCK_MOVEMENTS = {
  name: 'stock_movements',
  columns: {
    movement_no: 'integer',
    item_no: 'text',
    location: 'text',
    business_date: 'date',
    document_no: 'text',
    customer_no: 'text',
    /** Further dimensions that the host's mapping names. */
    dimensions: 'json',
    quantity: 'decimal',
    amount: 'decimal',
    register_id: 'integer',
    table_name: 'text',
    record_id: 'text',
    incarnation: 'integer',
    revision: 'integer',
    epoch_no: 'integer',
    entry_no: 'integer',
    posted_at: 'time',
  },
  primaryKey: ['movement_no'],
  nullable: ['business_date', 'document_no', 'customer_no', 'dimensions'],
  generated: 'movement_no',
  stamped: 'posted_at',
} as const satisfies OwnTable

/** What lies where: the sum of the movements. */
export const STOCK_LEVELS = {
  name: 'stock_levels',
  columns: { item_no: 'text', location: 'text', quantity: 'total' },
  primaryKey: ['item_no', 'location'],
} as const satisfies OwnTable

/** Effects outside the database that the host's handlers asked for, by their keys. A row stays for ever: it is what keeps an effect from coming twice. */
export const ONCE = {
  name: 'sync_once',
  columns: {
    key: 'text',
    /** 'owed', 'done', or 'dropped': its document does not ask for it any more. */
    state: 'text',
    /** Among which documents the one is that asked for it. */
    register_id: 'integer',
    table_name: 'text',
    epoch_no: 'integer',
    first_no: 'integer',
    last_no: 'integer',
    attempts: 'integer',
    /** Who takes care of it, and until when nobody else does; NULL where nobody needs to. */
    holder: 'text',
    held_until: 'time',
    asked_at: 'time',
    done_at: 'time',
  },
  primaryKey: ['key'],
  nullable: ['held_until', 'done_at'],
  stamped: 'asked_at',
  // By it those are found of which nobody takes care.
  uniques: [['held_until', 'key']],
} as const satisfies OwnTable

/** Where the pictures of a request come from. Types only. */
import type { InputPicture } from '@easel/contract'

/** A picture that came in the request itself and has been inspected. */
export interface SentPicture {
  picture: InputPicture
  bytes: Uint8Array
}

/** Where an input picture comes from: a URL or `upload:ID` in the request, the request itself, or a picture that is already stored. */
export type PictureSource = string | SentPicture | InputPicture

export type PictureField = 'image' | 'mask'

/** The input pictures that a request names or contains. */
export type PictureSources = { [Field in PictureField]?: PictureSource | undefined }

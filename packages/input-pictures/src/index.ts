export { fitMask, fitPicture, type Frame, type InputPixels } from './fit-picture.ts'
export { decodeInTurn, inspectPicture, type PictureFacts, UnusablePicture } from './inspect-picture.ts'
export { sizeForPicture, type SizeRule } from './size-for-picture.ts'

/* The worker that finds poses: MediaPipe's pose landmarker, compiled to WebAssembly, on the CPU. In: {picture, t} (an
   ImageBitmap, seconds that rise). Out: {world, image, ms} for each, or {fault} once if it cannot start.

   world: 33 × [x, y, z, visibility], metres about the hips, y down; image: 33 × [x, y, visibility], of the picture's width and height.
   Both undefined if nobody is seen. Pictures end here: nothing of them is sent on. */

const FOLDER = new URL("../vision/", self.location);

// The library writes its chatter to the error stream, which the browser would show as errors.
const complain = console.error;
console.error = (first, ...rest) => (/^(INFO|[IW]\d{4}) ?/.test(first) ? console.debug(first, ...rest) : complain(first, ...rest));

const round = (x) => Math.round(x * 1e4) / 1e4;

async function start() {
  const { FilesetResolver, PoseLandmarker } = await import(new URL("tasks-vision/vision_bundle.mjs", FOLDER));
  const files = await FilesetResolver.forVisionTasks(new URL("tasks-vision/wasm", FOLDER).href, true);
  return PoseLandmarker.createFromOptions(files, {
    baseOptions: { modelAssetPath: new URL("pose_landmarker_full.task", FOLDER).href, delegate: "CPU" },
    runningMode: "VIDEO",
    numPoses: 1, // of two people close together it finds one, and it does not tell who is who
  });
}

try {
  const landmarker = await start();
  onmessage = ({ data: { picture, t } }) => {
    const begin = performance.now();
    const { landmarks: [image], worldLandmarks: [world] } = landmarker.detectForVideo(picture, t * 1000);
    picture.close();
    postMessage({
      world: world?.map(({ x, y, z, visibility }) => [x, y, z, visibility].map(round)),
      image: image?.map(({ x, y, visibility }) => [x, y, visibility].map(round)),
      ms: performance.now() - begin,
    });
  };
  postMessage({ ready: true });
} catch (error) {
  postMessage({ fault: String(error) });
}

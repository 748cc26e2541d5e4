/* The skeleton over a picture: MediaPipe's 33 landmarks of the image, of which the body's are drawn. */

// Side by side as the stage draws them; numbers are blazepose33's.
const LEFT = [[11, 13], [13, 15], [23, 25], [25, 27], [27, 31]];
const RIGHT = [[12, 14], [14, 16], [24, 26], [26, 28], [28, 32]];
const TRUNK = [[11, 12], [11, 23], [12, 24], [23, 24]];
const EARS = [7, 8];
const SEEN = 0.5; // visibility under which a landmark is a guess

export class Overlay {
  constructor(canvas, picture) {
    Object.assign(this, { canvas, picture, pen: canvas.getContext("2d") });
  }

  /** landmarks: 33 × [x, y, visibility] of the picture's width and height, or undefined. */
  draw(landmarks) {
    const { canvas, picture, pen } = this;
    const scale = Math.min(devicePixelRatio, 2);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
    }
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!landmarks || !picture.videoWidth) return;
    const fit = Math.min(width / picture.videoWidth, height / picture.videoHeight); // as object-fit: contain does
    const [w, h] = [picture.videoWidth * fit, picture.videoHeight * fit];
    const at = (i) => [(width - w) / 2 + landmarks[i][0] * w, (height - h) / 2 + landmarks[i][1] * h];
    const seen = (i) => landmarks[i][2] >= SEEN;
    const style = getComputedStyle(canvas);
    const [left, right] = ["--left", "--right"].map((name) => style.getPropertyValue(name));
    const unit = Math.max(2.5, h / 110);

    pen.lineCap = pen.lineJoin = "round";
    const lines = [[TRUNK, right], [RIGHT, right], [LEFT, left]];
    for (const [more, halo] of [[unit * 0.9, true], [0, false]]) {
      for (const [bones, tone] of lines) {
        pen.strokeStyle = halo ? "rgb(0 0 0 / .45)" : tone;
        pen.lineWidth = unit + more;
        pen.beginPath();
        for (const [a, b] of bones) {
          if (!seen(a) || !seen(b)) continue;
          pen.moveTo(...at(a));
          pen.lineTo(...at(b));
        }
        if (bones === TRUNK && EARS.every(seen)) this.head(at(7), at(8), unit);
        pen.stroke();
      }
    }
  }

  head([ax, ay], [bx, by], unit) {
    const radius = Math.max(2.5 * unit, Math.hypot(bx - ax, by - ay) * 0.75);
    const [x, y] = [(ax + bx) / 2, (ay + by) / 2];
    this.pen.moveTo(x + radius, y);
    this.pen.arc(x, y, radius, 0, 2 * Math.PI);
  }
}

"use strict";
/* The moving Gaussians of the page: their numbers, and how a frame of them is rendered with WebGL 2.
   packing.py describes the numbers. The rules of rendering are those of raflib/render, and so are their names. */

/** Reads the numbers and computes the Gaussians of a frame. */
class Motion {
  constructor(header, bytes) {
    Object.assign(this, { count: header.count, frames: header.frames });
    this.parts = header.parts.map((part) => ({ ...part, total: part.wide + part.narrow }));
    let at = 0;
    const take = (type, length) => {
      const found = new type(bytes, at, length);
      at += length * type.BYTES_PER_ELEMENT;
      return found;
    };
    for (const part of this.parts) {
      part.low = take(Float32Array, part.channels);
      part.step = take(Float32Array, part.channels);
      part.coefficients = take(Float32Array, this.frames * part.total);
    }
    for (const part of this.parts) part.mean = take(Uint16Array, part.channels * this.count);
    for (const part of this.parts) part.wideRows = take(Int16Array, part.wide * part.channels * this.count);
    for (const part of this.parts) part.narrowRows = take(Int8Array, part.narrow * part.channels * this.count);
    for (const part of this.parts) {
      part.base = new Float32Array(part.channels * this.count);
      part.values = new Float32Array(part.base.length);
      for (let i = 0; i < part.base.length; i++) {
        const channel = Math.floor(i / this.count);
        part.base[i] = part.low[channel] + part.step[channel] * part.mean[i];
      }
    }
    [this.means, this.quaternions, this.sizes, this.looks] = this.parts.map((part) => part.values);
  }

  /** Fills means [3,N], quaternions [4,N] wxyz, sizes [3,N] (logarithms) and looks [4,N] (opacity, then colour). */
  seek(frame) {
    for (const part of this.parts) {
      const { values, coefficients, wide, total } = part, length = values.length;
      values.set(part.base);
      for (let k = 0; k < total; k++) {
        const much = coefficients[frame * total + k];
        const rows = k < wide ? part.wideRows : part.narrowRows, start = (k < wide ? k : k - wide) * length;
        for (let i = 0; i < length; i++) values[i] += much * rows[start + i];
      }
    }
  }
}

const SPLAT_VERTEX = `#version 300 es
precision highp float;
precision highp sampler2D;
uniform sampler2D splats;  // four texels a Gaussian: mean and opacity, quaternion, scales, colour
uniform mat3 turn;  // world to camera
uniform vec3 shift;
uniform vec4 lens;  // fx, fy, cx, cy in pixels
uniform vec4 limits;  // least and largest x/z, then y/z, of the Jacobian
uniform vec2 size;  // pixels
uniform float blur;  // pixels²
in uint which;
out vec2 offset;
flat out vec3 conic;
flat out vec4 look;

vec4 texel(int part) {
  int at = int(which) * 4 + part, across = textureSize(splats, 0).x;
  return texelFetch(splats, ivec2(at % across, at / across), 0);
}

void main() {
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0);  // outside the image, unless the Gaussian is visible
  vec4 place = texel(0), q = normalize(texel(1));
  vec3 p = turn * place.xyz + shift;
  if (p.z <= 0.01 || place.w < 1.0 / 255.0) return;
  mat3 rotation = mat3(
    1.0 - 2.0 * (q.z * q.z + q.w * q.w), 2.0 * (q.y * q.z + q.x * q.w), 2.0 * (q.y * q.w - q.x * q.z),
    2.0 * (q.y * q.z - q.x * q.w), 1.0 - 2.0 * (q.y * q.y + q.w * q.w), 2.0 * (q.z * q.w + q.x * q.y),
    2.0 * (q.y * q.w + q.x * q.z), 2.0 * (q.z * q.w - q.x * q.y), 1.0 - 2.0 * (q.y * q.y + q.z * q.z));
  vec3 scales = texel(2).xyz;
  mat3 axes = turn * rotation * mat3(scales.x, 0.0, 0.0, 0.0, scales.y, 0.0, 0.0, 0.0, scales.z);
  vec2 slope = clamp(p.xy / p.z, limits.xz, limits.yw);
  mat3 rows = transpose(axes);
  vec3 u0 = lens.x / p.z * (rows[0] - slope.x * rows[2]);
  vec3 u1 = lens.y / p.z * (rows[1] - slope.y * rows[2]);
  float c00 = dot(u0, u0), c01 = dot(u0, u1), c11 = dot(u1, u1);
  vec3 normal = cross(u0, u1);
  float determinant = dot(normal, normal) + blur * (c00 + c11) + blur * blur;
  if (!(determinant > 1e-10)) return;
  c00 += blur;
  c11 += blur;
  float reach = 2.0 * (log(place.w * 255.0) + 1e-3);
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0;
  offset = corner * sqrt(reach * vec2(c00, c11));
  conic = vec3(0.5 * c11, -c01, 0.5 * c00) / determinant;
  look = vec4(texel(3).xyz, place.w);
  vec2 pixel = lens.xy * p.xy / p.z + lens.zw + offset;
  gl_Position = vec4(2.0 * pixel.x / size.x - 1.0, 1.0 - 2.0 * pixel.y / size.y, 0.0, 1.0);
}`;

const SPLAT_FRAGMENT = `#version 300 es
precision highp float;
in vec2 offset;
flat in vec3 conic;
flat in vec4 look;
out vec4 shown;

void main() {
  float power = conic.x * offset.x * offset.x + conic.y * offset.x * offset.y + conic.z * offset.y * offset.y;
  float alpha = min(look.w * exp(-power), 0.999);
  if (alpha < 1.0 / 255.0) discard;
  shown = vec4(look.rgb * alpha, alpha);
}`;

const FULL_VERTEX = `#version 300 es
void main() {
  gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0);
}`;

const FULL_FRAGMENT = `#version 300 es
precision highp float;
uniform highp sampler2D layers;
out vec4 shown;

void main() {
  vec4 found = texelFetch(layers, ivec2(gl_FragCoord.xy), 0);
  shown = vec4(clamp(found.rgb + 1.0 - found.a, 0.0, 1.0), 1.0);  // on white
}`;

/** Renders a Motion into a canvas. Throws an Error with words for the reader where the browser cannot. */
class Renderer {
  constructor(canvas, motion) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false });
    if (!gl) throw new Error("This browser has no WebGL 2, which this page needs. Please use another browser.");
    Object.assign(this, { gl, canvas, motion });
    // Colours are blended with 16 bits a channel where the machine can, else with 8.
    this.fine = gl.getExtension("EXT_color_buffer_float") || gl.getExtension("EXT_color_buffer_half_float");
    this.splatting = this.program(SPLAT_VERTEX, SPLAT_FRAGMENT);
    this.finishing = this.program(FULL_VERTEX, FULL_FRAGMENT);
    this.across = 4 * Math.min(512, motion.count);
    this.down = Math.ceil((4 * motion.count) / this.across);
    this.numbers = new Float32Array(4 * this.across * this.down);
    this.splats = this.texture();
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA32F, this.across, this.down);
    this.order = new Uint32Array(motion.count);
    this.depths = new Float32Array(motion.count);
    this.keys = new Uint16Array(motion.count);
    this.places = new Uint32Array(65537);
    this.array = gl.createVertexArray();
    gl.bindVertexArray(this.array);
    this.buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, this.order.byteLength, gl.DYNAMIC_DRAW);
    const which = gl.getAttribLocation(this.splatting.program, "which");
    gl.enableVertexAttribArray(which);
    gl.vertexAttribIPointer(which, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(which, 1);
    this.none = gl.createVertexArray();
    this.target = gl.createFramebuffer();
    this.layers = null;
    this.uploaded = -1;
  }

  program(vertex, fragment) {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error("The graphics driver refused the page's programs. Please use another browser.");
    }
    return { program, at: (name) => gl.getUniformLocation(program, name) };
  }

  texture() {
    const gl = this.gl, made = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, made);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    return made;
  }

  /** Moves the Gaussians of a frame to the graphics memory. */
  upload(frame) {
    const { gl, motion, numbers } = this, { count, means, quaternions, sizes, looks } = motion;
    motion.seek(frame);
    for (let i = 0, at = 0; i < count; i++, at += 16) {
      for (let c = 0; c < 3; c++) {
        numbers[at + c] = means[c * count + i];
        numbers[at + 8 + c] = Math.exp(sizes[c * count + i]);
        numbers[at + 12 + c] = looks[(c + 1) * count + i];
      }
      numbers[at + 3] = Math.min(1, looks[i]);
      for (let c = 0; c < 4; c++) numbers[at + 4 + c] = quaternions[c * count + i];
    }
    gl.bindTexture(gl.TEXTURE_2D, this.splats);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, this.across, this.down, gl.RGBA, gl.FLOAT, numbers);
    this.uploaded = frame;
  }

  /** Sorts the Gaussians from back to front along the third row of `turn`, by counting. */
  sort(turn) {
    const { count, means } = this.motion, { order, depths, keys, places } = this;
    let near = Infinity, far = -Infinity;
    for (let i = 0; i < count; i++) {
      const depth = turn[6] * means[i] + turn[7] * means[count + i] + turn[8] * means[2 * count + i];
      depths[i] = depth;
      if (depth < near) near = depth;
      if (depth > far) far = depth;
    }
    const scale = 65535 / Math.max(far - near, 1e-9);
    places.fill(0);
    for (let i = 0; i < count; i++) {
      keys[i] = (far - depths[i]) * scale;
      places[keys[i] + 1]++;
    }
    for (let key = 0; key < 65536; key++) places[key + 1] += places[key];
    for (let i = count - 1; i >= 0; i--) order[places[keys[i]]++] = i;
  }

  /** Renders a frame as a camera sees it: {turn (9 numbers, row by row), shift, lens, blur, width, height}. */
  draw(frame, camera) {
    const gl = this.gl, { width, height, turn, shift, lens } = camera;
    if (this.uploaded !== frame) this.upload(frame);
    this.sort(turn);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffer);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, this.order);
    this.resize(width, height);
    gl.viewport(0, 0, width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.useProgram(this.splatting.program);
    gl.bindTexture(gl.TEXTURE_2D, this.splats);
    const at = this.splatting.at, [fx, fy, cx, cy] = lens, wide = (0.15 * width) / fx, high = (0.15 * height) / fy;
    gl.uniformMatrix3fv(at("turn"), true, turn);
    gl.uniform3fv(at("shift"), shift);
    gl.uniform4fv(at("lens"), lens);
    gl.uniform4f(at("limits"), -cx / fx - wide, (width - cx) / fx + wide, -cy / fy - high, (height - cy) / fy + high);
    gl.uniform2f(at("size"), width, height);
    gl.uniform1f(at("blur"), camera.blur);
    gl.bindVertexArray(this.array);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.motion.count);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.disable(gl.BLEND);
    gl.useProgram(this.finishing.program);
    gl.bindTexture(gl.TEXTURE_2D, this.layers);
    gl.bindVertexArray(this.none);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  /** Gives the canvas and the layers behind it this many pixels. */
  resize(width, height) {
    const gl = this.gl, canvas = this.canvas;
    if (this.layers && canvas.width === width && canvas.height === height) return;
    Object.assign(canvas, { width, height });
    if (this.layers) gl.deleteTexture(this.layers);
    this.layers = this.texture();
    gl.texStorage2D(gl.TEXTURE_2D, 1, this.fine ? gl.RGBA16F : gl.RGBA8, width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.layers, 0);
  }
}

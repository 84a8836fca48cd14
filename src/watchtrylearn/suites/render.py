"""Camera images of many different worlds at once, ray-cast on the CPU by mujoco_warp (no OpenGL), and clips.

MuJoCo computes where everything is (microseconds per world); mujoco_warp only casts the rays. So every field
of ``MjModel`` may differ between worlds, physics options do not matter and large kernels need no compiling.
Images depend neither on the number of threads nor on which worlds are drawn together.
"""

from __future__ import annotations

import copy
import io
import itertools
import os
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import av
import mujoco
import mujoco_warp
import numpy as np
import warp
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from watchtrylearn.types import WtlError


def _start_quietly() -> None:
    """Start warp without its banner, its line per loaded kernel, and its remark that there is no CUDA driver.

    The remark is written by native code straight to file descriptor 2; real failures raise as well.
    """
    warp.config.log_level = warp.LOG_WARNING
    if not os.environ.get("XDG_CACHE_HOME"):  # set but empty, it would put kernels into the current directory
        warp.config.kernel_cache_dir = str(Path.home() / ".cache" / "warp" / warp.__version__)
    sys.stderr.flush()
    kept, silent = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silent, 2)
        warp.init()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(silent)


_start_quietly()

CHUNK = 16  # worlds cast in one launch; bounds the memory, whatever the number of images
BACKGROUND = (0.86, 0.89, 0.92, 1.0)
VISIBLE_GROUPS = (0, 1, 2)  # MuJoCo's default; group 3 is for collision shapes by convention
SHADOW_LIGHT = 0.45  # share of a light that reaches its shadow
SLICES = 5  # of a shadow on its way down: each is bounded by a rectangle of its own
EDGE = 20  # of 255: neighbouring pixels that differ by more are on two sides of an edge
_PLACED = tuple(f"{thing}_{what}" for thing in ("geom", "cam") for what in ("xpos", "xmat"))  # what rays need of a pose
_PLACED += ("light_xpos", "light_xdir")
_CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))  # of a box of half size 1
_first_cast = threading.Lock()  # warp compiles and loads kernels at the first launch, one thread at a time

Images = UInt8[np.ndarray, "world height width 3"]


class Renderer:
    """Renders worlds that share one model layout but may differ in every field, meshes included.

    Args:
        model: the layout, holding every mesh that any world shows.
        fields: ``MjModel`` fields that differ between worlds, each (world, *shape in the model). With one
            row, or none at all, any number of poses of one and the same world can be drawn.
        camera: name of a camera in ``model``.
        width, height: of the images, in pixels.
        samples: rays per pixel and axis; 2 smooths edges at four times the cost.
        shadows: whether lights cast shadows.
        threads: that cast rays; 0 for one per core.
        steady: the images are of one world, one moment after another: pixels in which nothing can have changed are
            taken from the image before, and only edges get more than one of their ``samples``. One thread casts them,
            several times as fast.

    Raises:
        WtlError: no such camera, no such field, or fields of different numbers of worlds.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        fields: Mapping[str, np.ndarray],
        *,
        camera: str,
        width: int,
        height: int,
        samples: int = 1,
        shadows: bool = True,
        threads: int = 0,
        steady: bool = False,
    ) -> None:
        self._worlds = _count_worlds(model, fields, camera)
        if steady and self._worlds > 1:
            raise WtlError(f"steady images are of one world, the fields are for {self._worlds}")
        self._model, self._size, self._steady = model, (height, width), steady
        lanes = 1 if steady else threads or os.cpu_count() or 1
        with warp.ScopedDevice("cpu"), _first_cast:
            self._lanes = [_Lane(model, fields, camera, self._size, samples, shadows, steady) for _ in range(lanes)]

    def images(
        self,
        qpos: Float[np.ndarray, "world nq"],
        mocap_pos: Float[np.ndarray, "world mocap 3"] | None = None,
        mocap_quat: Float[np.ndarray, "world mocap 4"] | None = None,
    ) -> Images:
        """What the camera sees in each world at joint positions ``qpos`` (mocap bodies: the model's if None).

        Raises:
            WtlError: the numbers of worlds, joint positions or mocap bodies do not fit.
        """
        poses = {"qpos": qpos, "mocap_pos": mocap_pos, "mocap_quat": mocap_quat}
        given = {name: np.asarray(value) for name, value in poses.items() if value is not None}
        self._check(given)
        out = np.empty((len(qpos), *self._size, 3), np.uint8)
        if self._steady:
            with warp.ScopedDevice("cpu"):
                self._lanes[0].draw_on(given, out)
            return out

        def draw(lane: int) -> None:
            for start in range(lane * CHUNK, len(out), len(self._lanes) * CHUNK):
                self._lanes[lane].draw(given, start, out[start : start + CHUNK])

        with warp.ScopedDevice("cpu"), ThreadPoolExecutor(len(self._lanes)) as pool:
            list(pool.map(draw, range(len(self._lanes))))
        return out

    def _check(self, given: Mapping[str, np.ndarray]) -> None:
        worlds = len(given["qpos"])
        if self._worlds not in (1, worlds):
            raise WtlError(f"qpos is for {worlds} worlds, the renderer holds {self._worlds}")
        single = {
            "qpos": (self._model.nq,),
            "mocap_pos": (self._model.nmocap, 3),
            "mocap_quat": (self._model.nmocap, 4),
        }
        for name, value in given.items():
            if value.shape != (worlds, *single[name]):
                raise WtlError(f"{name}: shape {value.shape}, expected {(worlds, *single[name])}")


def _count_worlds(model: mujoco.MjModel, fields: Mapping[str, np.ndarray], camera: str) -> int:
    """The number of worlds in ``fields`` (1 if there are none), or what is wrong with them."""
    names = [model.camera(i).name for i in range(model.ncam)]
    if camera not in names:
        raise WtlError(f"the model has no camera {camera!r}; it has {', '.join(names) or 'none'}")
    for name, values in fields.items():
        shape = getattr(getattr(model, name, None), "shape", None)
        if shape is None:
            raise WtlError(f"{name!r} is not a field of MjModel")
        if values.shape[1:] != shape:
            raise WtlError(f"{name}: shape {values.shape[1:]} in each world, the model has {shape}")
    counts = {name: len(values) for name, values in fields.items()}
    if len(set(counts.values())) > 1:
        raise WtlError(f"the fields are for different numbers of worlds: {counts}")
    return next(iter(counts.values()), 1)


class _Lane:
    """One thread's copy of the model, with room for ``CHUNK`` worlds (if steady: one) on the ray caster's side."""

    def __init__(
        self,
        model: mujoco.MjModel,
        fields: Mapping[str, np.ndarray],
        camera: str,
        size: tuple[int, int],
        samples: int,
        shadows: bool,
        steady: bool,
    ) -> None:
        self._fields, self._size, self._chunk = fields, size, 1 if steady else CHUNK
        finer = samples if steady else 1  # then every sample is a pixel of a finer image, of which some are cast
        self._model = copy.copy(model)  # each world's fields are written into it in turn
        self._model.opt.disableflags = 0  # physics options do not show, and mujoco_warp refuses some of them
        # Where frames coincide in the compiled model, mj_kinematics skips geom_pos and geom_quat: not here,
        # where they may differ from world to world.
        self._model.geom_sameframe[:] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE
        self._model.body_sameframe[:] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE
        self._state = mujoco.MjData(self._model)
        self._device_model = mujoco_warp.put_model(self._model)
        self._device_state = mujoco_warp.make_data(self._model, nworld=self._chunk)
        self._context = mujoco_warp.create_render_context(
            self._model,
            nworld=self._chunk,
            cam_res=(finer * size[1], finer * size[0]),
            cam_active=[camera],
            render_rgb=True,
            render_depth=False,
            render_seg=False,
            use_shadows=shadows,
            shadow_light_fraction=SHADOW_LIGHT,
            samples_per_pixel=samples // finer,
            enabled_geom_groups=list(VISIBLE_GROUPS),
            background_color=BACKGROUND,
        )
        # On the CPU a warp array and its numpy view share memory: writing a view moves the world.
        self._placed = {name: getattr(self._device_state, name).numpy() for name in _PLACED}
        self._shaded = {name: self._widened(name) for name in fields if self._is_shaded(name)}
        if steady:  # a ray for every sample of every pixel
            table = self._context.ray.numpy().copy().reshape(size[0], finer, size[1], finer, 3)
            self._rays = table.swapaxes(1, 2).reshape(*size, finer**2, 3)
        self._shown = np.flatnonzero(np.isin(self._model.geom_group, VISIBLE_GROUPS))
        self._camera = self._model.camera(camera).id
        self._shadows = shadows
        self._warm = False

    def _is_shaded(self, name: str) -> bool:
        """Does the ray caster hold this field, with a leading dimension for worlds?"""
        held = getattr(self._device_model, name, None)
        return isinstance(held, warp.array) and held.numpy().shape[1:] == getattr(self._model, name).shape

    def _widened(self, name: str) -> np.ndarray:
        """Give the ray caster one row of a field per slot, and return the view to write them through."""
        rows = np.repeat(self._fields[name][:1], self._chunk, axis=0)
        wide: warp.array = warp.array(rows, dtype=getattr(self._device_model, name).dtype)
        setattr(self._device_model, name, wide)
        view: np.ndarray = wide.numpy()
        return view

    def draw(self, poses: Mapping[str, np.ndarray], start: int, out: Images) -> None:
        """Draw the worlds from ``start`` on into ``out`` (at most ``CHUNK`` images)."""
        for slot in range(len(out)):
            self._place(slot, start + slot, poses)
        self._device_state.nworld = len(out)
        self._cast()
        out[...] = self._pixels()[: len(out)].reshape(len(out), *self._size, 3)

    def draw_on(self, poses: Mapping[str, np.ndarray], out: Images) -> None:
        """Draw one world, moment after moment; each image begins as the one before it."""
        before, samples = None, self._rays.shape[2]
        first = np.empty(out.shape[1:], np.uint8)  # the image of every pixel's first sample
        for moment in range(len(out)):
            self._place(0, moment, poses)
            seen = _Seen.of(self._state, self._model, self._shown, self._camera, self._shadows)
            window = seen.changed_since(before, self._rays[:, :, 0])
            before = seen
            if moment:
                out[moment] = out[moment - 1]
            if window.any():
                first[window] = self._cast_only(self._rays[window, 0])
                out[moment][window] = first[window]
                edges = _edges(first) & window
                if samples > 1 and edges.any():
                    others = self._cast_only(self._rays[edges, 1:])
                    total = others.sum(axis=1, dtype=int) + first[edges]
                    out[moment][edges] = (total + samples // 2) // samples

    def _cast_only(self, rays: Float[np.ndarray, "*shape 3"]) -> UInt8[np.ndarray, "*shape 3"]:
        """The colours that these rays meet in the world at hand."""
        flat = rays.reshape(-1, 3)
        self._context.ray.numpy()[: len(flat)] = flat
        self._context.total_rays = len(flat)
        self._cast()
        return self._pixels()[0, : len(flat)].reshape(rays.shape)

    def _pixels(self) -> UInt8[np.ndarray, "slot pixel 3"]:
        """What was cast, red first."""
        packed = self._context.rgb_data.numpy()  # one little-endian 0xAARRGGBB per pixel
        pixels: np.ndarray = packed.view(np.uint8).reshape(*packed.shape, 4)[..., 2::-1]
        return pixels

    def _place(self, slot: int, world: int, poses: Mapping[str, np.ndarray]) -> None:
        """Put one world's fields and the poses of its geoms, cameras and lights into a slot of the chunk."""
        for name, values in self._fields.items():
            row = values[world if len(values) > 1 else 0]
            getattr(self._model, name)[...] = row
            if name in self._shaded:
                self._shaded[name][slot] = row
        mujoco.mj_resetData(self._model, self._state)
        for name, values in poses.items():
            getattr(self._state, name)[...] = values[world]
        mujoco.mj_kinematics(self._model, self._state)
        mujoco.mj_comPos(self._model, self._state)  # cameras and lights may track centres of mass
        mujoco.mj_camlight(self._model, self._state)
        for name, view in self._placed.items():
            view[slot] = getattr(self._state, name).reshape(view.shape[1:])

    def _cast(self) -> None:
        with nullcontext() if self._warm else _first_cast:
            mujoco_warp.refit_bvh(self._device_model, self._device_state, self._context)
            mujoco_warp.render(self._device_model, self._device_state, self._context)
        self._warm = True


def _edges(image: UInt8[np.ndarray, "height width 3"]) -> Bool[np.ndarray, "height width"]:
    """The pixels that differ from one beside, above or below them."""
    edges = np.zeros(image.shape[:2], bool)
    values = image.astype(np.int16)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differ = np.abs(values[one] - values[other]).max(axis=-1) > EDGE
        edges[one] |= differ
        edges[other] |= differ
    return edges


@dataclass(frozen=True)
class _Seen:
    """What an image depends on at one moment: the boxes of the geoms that show, the camera, and the lights."""

    corners: Float[np.ndarray, "geom 8 3"]
    pose: Float[np.ndarray, "geom 12"]
    eye: Float[np.ndarray, "12"]
    lights: Float[np.ndarray, "light 6"]
    directional: Bool[np.ndarray, "light"]
    shadows: Bool[np.ndarray, "light"]

    @classmethod
    def of(cls, state: mujoco.MjData, model: mujoco.MjModel, shown: np.ndarray, camera: int, shadows: bool) -> _Seen:
        turn, place = state.geom_xmat[shown].reshape(-1, 3, 3), state.geom_xpos[shown]
        centre, half = model.geom_aabb[shown, :3], model.geom_aabb[shown, 3:]
        local = centre[:, None] + half[:, None] * _CORNERS
        return cls(
            corners=place[:, None] + np.einsum("gij,gcj->gci", turn, local),
            pose=np.concatenate([place, turn.reshape(-1, 9)], axis=1),
            eye=np.concatenate([state.cam_xpos[camera], state.cam_xmat[camera]]),
            lights=np.concatenate([state.light_xpos, state.light_xdir], axis=1),
            directional=model.light_type == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            shadows=model.light_castshadow.astype(bool) & shadows,
        )

    def changed_since(
        self, before: _Seen | None, rays: Float[np.ndarray, "height width 3"]
    ) -> Bool[np.ndarray, "height width"]:
        """The pixels of the image outside which nothing can differ from the moment ``before``.

        What differs lies in the boxes of the geoms that moved, where they were and where they are, or in their
        shadows: between such a box and its projection, away from a light, onto a plane below everything.
        """
        whole = np.ones(rays.shape[:2], bool)
        if before is None or not (np.array_equal(self.eye, before.eye) and np.array_equal(self.lights, before.lights)):
            return whole
        moved = (self.pose != before.pose).any(axis=1)
        boxes = [*self.corners[moved], *before.corners[moved]]
        floor = min(self.corners[..., 2].min(), before.corners[..., 2].min())
        parts = boxes.copy()
        for light, directional in zip(self.lights[self.shadows], self.directional[self.shadows], strict=True):
            for box in boxes:
                away = np.broadcast_to(light[3:], box.shape) if directional else box - light[:3]
                if (away[:, 2] > -1e-3).any():  # lit from the side or from below: a shadow without end
                    return whole
                heights = np.linspace(box[:, 2].min(), floor, SLICES + 1)
                cuts = [box, *(box + away * ((box[:, 2:] - height) / -away[:, 2:]) for height in heights)]
                parts += [np.concatenate(pair) for pair in itertools.pairwise(cuts)]
        across, down = (rays[0, :, 0] / -rays[0, :, 2]), (rays[:, 0, 1] / rays[:, 0, 2])
        changed = np.zeros(rays.shape[:2], bool)
        for points in parts:
            local = (points - self.eye[:3]) @ self.eye[3:].reshape(3, 3)
            if (local[:, 2] > -1e-3).any():  # beside or behind the camera
                return whole
            slopes = local[:, :2] / -local[:, 2:]
            changed[_between(down, -slopes[:, 1]), _between(across, slopes[:, 0])] = True
        return changed


def _between(places: Float[np.ndarray, "pixel"], seen: Float[np.ndarray, "point"]) -> slice:
    """The pixels at the increasing ``places`` that hold everything ``seen``, and one more at each end."""
    return slice(max(0, int(np.searchsorted(places, seen.min())) - 2), int(np.searchsorted(places, seen.max())) + 2)


def encode_video(frames: UInt8[np.ndarray, "time height width 3"], fps: int) -> bytes:
    """The frames as an MP4 that browsers play (H.264, yuv420p, index first).

    Raises:
        WtlError: no frames, or an odd width or height (the colour planes have half the resolution).
    """
    if len(frames) == 0 or frames.shape[1] % 2 or frames.shape[2] % 2:
        raise WtlError(f"a video needs frames of even width and height, got an array of shape {frames.shape}")
    with tempfile.TemporaryDirectory() as folder:  # "faststart" reads the file again: memory will not do
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": "23", "preset": "medium"})
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        return path.read_bytes()


def encode_jpeg(image: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """One image as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="jpeg", quality=85, optimize=True)
    return buffer.getvalue()

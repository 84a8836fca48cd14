"""The ray caster against what optics says, and clips against their own decoder."""

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from watchtrylearn.types import WtlError

pytestmark = pytest.mark.sim
pytest.importorskip("mujoco_warp")
pytest.importorskip("av")

import av  # noqa: E402
import mujoco  # noqa: E402
from PIL import Image  # noqa: E402

from watchtrylearn.suites.kitchen.objects import kitchen_objects  # noqa: E402
from watchtrylearn.suites.render import CHUNK, Renderer, encode_jpeg, encode_video  # noqa: E402

SCENE = """
<mujoco>
  <visual><headlight ambient=".5 .5 .5" diffuse="0 0 0" specular="0 0 0"/></visual>
  <asset>
    <mesh name="block" scale=".1 .1 .1" vertex="-1 -1 -1 1 -1 -1 -1 1 -1 1 1 -1 -1 -1 1 1 -1 1 -1 1 1 1 1 1"/>
    <mesh name="slab" scale=".2 .05 .1" vertex="-1 -1 -1 1 -1 -1 -1 1 -1 1 1 -1 -1 -1 1 1 -1 1 -1 1 1 1 1 1"/>
  </asset>
  <worldbody>
    <light name="lamp" type="directional" dir="0 0 -1" diffuse=".4 .4 .4" specular="0 0 0"/>
    <camera name="above" pos="0 0 2" fovy="53.13010235"/>
    <geom name="floor" type="plane" size="5 5 .1" rgba=".6 .6 .6 1"/>
    <body name="thing" pos="0 0 .1">
      <joint name="slide" type="slide" axis="1 0 0"/>
      <geom name="thing" type="mesh" mesh="block" rgba="1 0 0 1"/>
    </body>
    <body name="marker" mocap="true" pos="-.6 -.6 .05"><geom type="sphere" size=".05" rgba="0 0 1 1"/></body>
    <geom name="inner" type="sphere" size=".3" rgba="0 1 0 1" group="3" pos=".6 .6 0"/>
  </worldbody>
</mujoco>
"""  # two metres above the floor, 53.13 degrees see exactly two metres of it
SIZE = 100


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(SCENE)


@pytest.fixture(scope="module")
def renderer(model: mujoco.MjModel) -> Renderer:
    return Renderer(model, {}, camera="above", width=SIZE, height=SIZE)


def red(image: np.ndarray) -> np.ndarray:
    """Where the thing is seen."""
    return (image[..., 0] > 2 * image[..., 1].astype(int)) & (image[..., 0] > 60)


def test_the_thing_is_where_and_as_large_as_the_pinhole_camera_says(renderer: Renderer) -> None:
    shift = 0.45
    pixels = red(renderer.images(np.array([[0.0], [shift]]))[1])
    rows, columns = np.nonzero(pixels)
    # Its top, 0.2 m wide, is 1.8 m below the camera, where the image is 1.8 m wide; +x is to the right.
    scale = SIZE / 1.8
    assert columns.max() + 1 - SIZE / 2 == pytest.approx((shift + 0.1) * scale, abs=1.5)
    assert np.ptp(rows) + 1 == pytest.approx(0.2 * scale, abs=1.5)
    assert rows.mean() == pytest.approx(SIZE / 2 - 0.5, abs=1.0)


def test_light_adds_up_as_lambert_says(renderer: Renderer) -> None:
    image = renderer.images(np.zeros((1, 1)))[0]
    # Ambient .5 plus diffuse .4 at normal incidence, times the floor's grey of .6.
    assert image[5, 50].tolist() == pytest.approx([0.9 * 0.6 * 255] * 3, abs=3)


def test_a_shadow_falls_below_a_lifted_thing_only_where_light_is_blocked() -> None:
    lifted = SCENE.replace('pos="0 0 .1">', 'pos="0 0 .6">').replace('dir="0 0 -1"', 'dir="-1 0 -1"')
    scene = mujoco.MjModel.from_xml_string(lifted)
    lit, dark = (
        Renderer(scene, {}, camera="above", width=SIZE, height=SIZE, shadows=on).images(np.zeros((1, 1)))[0]
        for on in (False, True)
    )
    darker = lit[..., 1].astype(int) - dark[..., 1] > 10
    assert darker.any()
    # Lit from +x at 45 degrees, a thing 0.6 m up throws its shadow 0.6 m towards -x: 30 pixels to the left.
    assert np.nonzero(darker)[1].mean() == pytest.approx(SIZE / 2 - 30, abs=3)


def test_every_world_shows_its_own_mesh_colour_and_pose(model: mujoco.MjModel) -> None:
    worlds = 2 * CHUNK + 3  # more than fits one launch, and a remainder
    dataid = np.repeat(model.geom_dataid[None], worlds, axis=0)
    rgba = np.repeat(model.geom_rgba[None], worlds, axis=0)
    thing, slab = model.geom("thing").id, model.mesh("slab").id
    quat = np.repeat(model.geom_quat[None], worlds, axis=0)
    dataid[1::2, thing] = slab
    quat[1::2, thing] = model.mesh_quat[slab]  # MuJoCo turned the mesh to its principal axes
    rgba[:, thing] = (1.0, 0.0, 0.0, 1.0)
    rgba[::3, thing] = (0.0, 1.0, 0.0, 1.0)
    qpos = np.linspace(-0.5, 0.5, worlds)[:, None]
    fields = {"geom_dataid": dataid, "geom_quat": quat, "geom_rgba": rgba}
    together = Renderer(model, fields, camera="above", width=SIZE, height=SIZE).images(qpos)
    for world in (0, 1, CHUNK, worlds - 1):
        alone = mujoco.MjModel.from_xml_string(SCENE)
        alone.geom_dataid[:], alone.geom_quat[:], alone.geom_rgba[:] = dataid[world], quat[world], rgba[world]
        one = Renderer(alone, {}, camera="above", width=SIZE, height=SIZE, threads=1).images(qpos[world : world + 1])
        assert np.array_equal(one[0], together[world])
    assert not red(together[0]).any()
    assert np.ptp(np.nonzero(red(together[1]))[1]) > 1.5 * np.ptp(np.nonzero(red(together[2]))[1])


def test_mocap_bodies_move(renderer: Renderer) -> None:
    def blue(image: np.ndarray) -> np.ndarray:
        where: np.ndarray = np.argwhere(image[..., 2] > 2 * image[..., 0].astype(int)).mean(axis=0)
        return where

    still = renderer.images(np.zeros((1, 1)))[0]
    moved = renderer.images(np.zeros((1, 1)), mocap_pos=np.array([[[0.6, -0.6, 0.05]]]))[0]
    assert blue(still)[1] == pytest.approx(SIZE / 2 - 31, abs=1.5)
    assert blue(moved)[1] == pytest.approx(SIZE / 2 + 30, abs=1.5)


def test_the_number_of_threads_and_the_company_change_nothing(model: mujoco.MjModel) -> None:
    qpos = np.linspace(-0.5, 0.5, CHUNK + 5)[:, None]
    by_one, by_three = (
        Renderer(model, {}, camera="above", width=64, height=48, samples=2, threads=n).images(qpos) for n in (1, 3)
    )
    assert by_one.shape == (CHUNK + 5, 48, 64, 3)
    assert np.array_equal(by_one, by_three)


def test_more_samples_only_smooth_edges(model: mujoco.MjModel, renderer: Renderer) -> None:
    coarse = renderer.images(np.zeros((1, 1)))[0].astype(int)
    fine = Renderer(model, {}, camera="above", width=SIZE, height=SIZE, samples=2).images(np.zeros((1, 1)))[0]
    differs = np.abs(coarse - fine).max(axis=-1) > 8
    assert 0 < differs.mean() < 0.05


@pytest.mark.parametrize(
    "light", ['dir="0 0 -1"', 'dir="-1 .3 -1"', 'dir="-1 0 0"', 'dir="-1 0 -1" castshadow="false"']
)
def test_steady_images_are_the_ones_that_are_cast_whole(light: str) -> None:
    lifted = SCENE.replace('dir="0 0 -1"', light).replace('pos="0 0 .1">', 'pos="0 0 .5">')
    scene = mujoco.MjModel.from_xml_string(lifted)
    qpos = np.array([0.0, 0.0, 0.02, 0.3, -0.5, 5.0, -0.5])[:, None]  # at 5 it is out of sight
    markers = np.tile([-0.6, -0.6, 0.05], (len(qpos), 1, 1))
    markers[3:, 0, 0] = 0.2
    whole, steady = (
        Renderer(scene, {}, camera="above", width=SIZE, height=60, threads=1, steady=on).images(qpos, markers)
        for on in (False, True)
    )
    np.testing.assert_array_equal(whole, steady)
    assert len({image.tobytes() for image in whole}) == 5


def test_steady_images_have_smooth_edges_too(model: mujoco.MjModel) -> None:
    qpos = np.linspace(-0.5, 0.5, 5)[:, None]
    first, smooth, steady = (
        Renderer(model, {}, camera="above", width=SIZE, height=SIZE, samples=n, steady=on).images(qpos).astype(int)
        for n, on in ((1, False), (2, False), (2, True))
    )
    assert (np.abs(smooth - steady).max(axis=-1) > 8).mean() < 0.1 * (np.abs(smooth - first).max(axis=-1) > 8).mean()


def test_steady_images_are_of_one_world(model: mujoco.MjModel) -> None:
    two = np.repeat(model.geom_rgba[None], 2, axis=0)
    with refused("of one world", "for 2"):
        Renderer(model, {"geom_rgba": two}, camera="above", width=8, height=8, steady=True)


def test_collision_shapes_are_hidden(renderer: Renderer) -> None:
    image = renderer.images(np.zeros((1, 1)))[0].astype(int)
    assert not (image[..., 1] > image[..., 0] + 50).any()


def test_a_hollow_mug_shows_its_inside() -> None:
    mug = next(thing for thing in kitchen_objects() if thing.kind == "mug")
    depth = _depth_below(mug.visual.vertices, mug.visual.faces)
    assert depth > 0.03  # a ray down the axis meets the floor of the cavity, not a lid


def _depth_below(vertices: np.ndarray, faces: np.ndarray) -> float:
    """How far below the rim a vertical ray a little off the axis first meets the mesh."""
    spec = mujoco.MjSpec()
    spec.add_mesh(name="thing", uservert=vertices.ravel(), userface=faces.ravel())
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="thing")
    scene = spec.compile()
    state = mujoco.MjData(scene)
    mujoco.mj_forward(scene, state)
    start = np.array([0.002, 0.003, vertices[:, 2].max()])
    down, hit = np.array([0.0, 0.0, -1.0]), np.zeros(1, np.int32)
    return float(mujoco.mj_ray(scene, state, start, down, None, 1, -1, hit))


# ------------------------------------------------------------------------------------------------- errors


@contextmanager
def refused(*words: str) -> Iterator[None]:
    with pytest.raises(WtlError) as caught:
        yield
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_what_does_not_fit_is_refused_by_name(model: mujoco.MjModel, renderer: Renderer) -> None:
    with refused("sideways", "above"):
        Renderer(model, {}, camera="sideways", width=8, height=8)
    with refused("geom_colour"):
        Renderer(model, {"geom_colour": np.zeros((2, 1))}, camera="above", width=8, height=8)
    with refused("geom_rgba", "(3, 4)"):
        Renderer(model, {"geom_rgba": np.zeros((2, 3, 4))}, camera="above", width=8, height=8)
    two, three = (np.repeat(model.geom_rgba[None], n, axis=0) for n in (2, 3))
    with refused("different numbers of worlds"):
        fields = {"geom_rgba": two, "geom_pos": three[..., :3]}
        Renderer(model, fields, camera="above", width=8, height=8)
    with refused("3 worlds", "holds 2"):
        Renderer(model, {"geom_rgba": two}, camera="above", width=8, height=8).images(np.zeros((3, 1)))
    with refused("qpos", "(1, 2)"):
        renderer.images(np.zeros((1, 2)))
    with refused("mocap_pos"):
        renderer.images(np.zeros((2, 1)), mocap_pos=np.zeros((2, 4, 3)))


# -------------------------------------------------------------------------------------------------- clips


def test_a_clip_decodes_to_its_frames() -> None:
    rows, columns = np.mgrid[0:48, 0:64]
    frames = np.stack([np.stack([4 * columns, 5 * rows, 0 * rows + 20 * t], axis=-1) for t in range(12)])
    frames = frames.astype(np.uint8)
    data = encode_video(frames, fps=10)
    with av.open(io.BytesIO(data), "r") as clip:
        stream = clip.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 10
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in clip.decode(stream)])
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 6.0
    assert data.index(b"moov") < data.index(b"mdat")  # the index comes first: browsers start at once


def test_a_clip_of_nothing_or_of_odd_size_is_refused() -> None:
    with refused("(0, 8, 8, 3)"):
        encode_video(np.zeros((0, 8, 8, 3), np.uint8), fps=10)
    with refused("even"):
        encode_video(np.zeros((2, 8, 9, 3), np.uint8), fps=10)


def test_a_still_decodes_to_its_image() -> None:
    rows, columns = np.mgrid[0:48, 0:64]
    image = np.stack([4 * columns, 5 * rows, 0 * rows + 90], axis=-1).astype(np.uint8)
    still = Image.open(io.BytesIO(encode_jpeg(image)))
    assert still.format == "JPEG"
    assert np.abs(np.asarray(still).astype(int) - image).mean() < 3.0


def test_a_new_process_prints_nothing(tmp_path: Path) -> None:
    (tmp_path / "scene.xml").write_text(SCENE)
    program = (
        "import mujoco, numpy, sys; from watchtrylearn.suites.render import Renderer;"
        "model = mujoco.MjModel.from_xml_path(sys.argv[1]);"
        "Renderer(model, {}, camera='above', width=10, height=10).images(numpy.zeros((1, 1)))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "scene.xml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")

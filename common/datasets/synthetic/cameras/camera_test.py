import numpy as np

from common.datasets.synthetic.cameras.camera import cameras


def test_cameras_differ_in_colour():
    gains = np.array([camera.gains for camera in cameras(0, 6)])
    assert len(np.unique(gains.round(6), axis=0)) == 6
    assert cameras(0, 6) == cameras(0, 6)
    assert cameras(0, 6) != cameras(1, 6)

"""What the autoencoder learns from, and what it leaves."""

import pytest
import torch

from launcher.flux_tiny import model, train_autoencoder


@pytest.mark.parametrize("step", range(len(train_autoencoder.SIZES)))
def test_pictures_of_a_step(step: int) -> None:
    pictures = train_autoencoder.draw(step)
    height, width = train_autoencoder.SIZES[step]
    assert pictures.shape[1:] == (3, height, width)
    assert len(pictures) * height * width <= train_autoencoder.BATCH_PIXELS
    assert -1 <= pictures.min() < pictures.max() <= 1
    assert all(len(picture.flatten(1).unique(dim=1).T) > 1 for picture in pictures)  # never of one colour
    assert torch.equal(pictures, train_autoencoder.draw(step))


@pytest.mark.slow
def test_it_goes_on_from_its_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_autoencoder, "BATCH_PIXELS", 2 * 64 * 64)
    monkeypatch.setattr(train_autoencoder, "CHECKPOINT_EVERY", 2)
    vae = model.autoencoder()
    monkeypatch.setattr(train_autoencoder, "STEPS", 2)
    train_autoencoder.train(vae, tmp_path)
    monkeypatch.setattr(train_autoencoder, "STEPS", 3)
    draw, drawn = train_autoencoder.draw, []
    monkeypatch.setattr(train_autoencoder, "draw", lambda step: drawn.append(step) or draw(step))
    train_autoencoder.train(model.autoencoder(), tmp_path)
    assert drawn == [2]
    train_autoencoder.load(vae, tmp_path)

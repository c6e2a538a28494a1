//! What happens to pictures before a network: resizing, against PyTorch's.

use std::fs;

use flowgpu::image::resize;
use safetensors::SafeTensors;

/// `<height>x<width>_to_<height>x<width>` as two sizes.
fn sizes(case: &str) -> [[usize; 2]; 2] {
    let side = |text: &str| text.parse().expect("a number");
    let size = |text: &str| text.split_once('x').map(|(height, width)| [side(height), side(width)]);
    let (from, to) = case.split_once("_to_").expect("two sizes");
    [size(from), size(to)].map(|size| size.expect("height and width"))
}

#[test]
fn resizing_is_pytorchs_up_and_down() {
    let bytes = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/vision/resize.safetensors"));
    let bytes = bytes.expect("the golden is there");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let floats = |name: &str| -> Vec<f32> {
        bytemuck::pod_collect_to_vec(tensors.tensor(name).expect("a tensor").data())
    };
    let names = tensors.names();
    let cases: Vec<_> = names.iter().filter_map(|name| name.strip_suffix("/input")).collect();
    assert!(cases.len() >= 8, "{cases:?}");
    for case in cases {
        let [from, to] = sizes(case);
        let resized = resize(&floats(&format!("{case}/input")), from, to);
        let expected = floats(&format!("{case}/expect"));
        assert_eq!(resized.len(), expected.len(), "{case}");
        let errors = resized.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let worst = errors.fold(0.0_f32, f32::max);
        assert!(worst <= 1e-6, "{case}: off by {worst}");
    }
}
